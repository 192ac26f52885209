//! The optimiser: AdamW over the parameters of a model, kept by their names.
//!
//! All parameters decay, as in the reproductions of Liu et al.; there are no parameter groups.

use std::collections::{BTreeMap, BTreeSet};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData, TensorPrimitive};
use mnemoscope_engine::Ops;
use mnemoscope_engine::optim::{AdamWStep, adamw_step, sum_squares};

use crate::error::{Cause, Error};
use crate::model::Model;
use crate::params::{Array, Path, Tensors, misfits, numbers};
use crate::spec::ModelSpec;

/// Names in the stored form: `m.<parameter>`, `v.<parameter>`, and the number of steps.
const MEAN: &str = "m.";
const SQUARE: &str = "v.";
const N_STEPS: &str = "n_steps";

/// A step count is stored as two numbers below this, because every stored number is a float.
const LIMB: u64 = 1 << 24;

/// Added to a norm before dividing by it, as `torch.nn.utils.clip_grad_norm_` does.
const CLIP_EPSILON: f64 = 1e-6;

/// The settings of one step of AdamW.
///
/// # Source
///
/// Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019, as in
/// `torch.optim.AdamW`: the parameter first shrinks by `lr * weight_decay` of itself, then moves
/// by `lr * m_hat / (sqrt(v_hat) + epsilon)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// The learning rate of this step, after any schedule.
    pub lr: f64,
    /// Decay of the mean of gradients; 0.9 is customary.
    pub beta1: f64,
    /// Decay of the mean of squared gradients; 0.999 is customary.
    pub beta2: f64,
    /// Added to the root of the second mean; 1e-8 is customary.
    pub epsilon: f64,
    /// The share, times the learning rate, by which a parameter shrinks.
    pub weight_decay: f64,
    /// The largest Euclidean norm that all gradients together may have; larger ones are scaled.
    pub clip_norm: Option<f64>,
}

/// The running means of the gradients and of their squares, by parameter, and the steps taken.
///
/// `B` is the backend without gradients.
///
/// # Example
///
/// ```
/// use mnemoscope_engine::{Ops, QueryRows, burn::tensor::Tensor, device::{CpuAutodiff, cpu}};
/// use mnemoscope_model::{LstmSpec, Model, ModelSpec, hook::NoHooks, optim::{AdamW, AdamWState}};
/// use mnemoscope_stats::stream::Stream;
///
/// let spec = ModelSpec::Lstm(LstmSpec { n_layers: 1, d_model: 8, d_vocab: 5 });
/// let mut model = Model::<CpuAutodiff>::init(&spec, &Stream::root(0), &cpu());
/// let mut state = AdamWState::new();
/// let hyper = AdamW {
///     lr: 0.01, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.1, clip_norm: None,
/// };
/// let mut losses = Vec::new();
/// for _ in 0..5 {
///     let tokens = Tensor::from_data([[0, 4, 1]], &cpu());
///     let logits = model.logits(tokens, &QueryRows::new(3, vec![(0, 2)]), &mut NoHooks);
///     let loss = CpuAutodiff::cross_entropy(logits, Tensor::from_data([4], &cpu()));
///     losses.push(loss.clone().into_scalar());
///     model = state.step(model, loss.backward(), &hyper);
/// }
/// assert!(losses.is_sorted_by(|a, b| a > b), "{losses:?}");
/// assert_eq!(state.n_steps(), 5);
/// ```
#[derive(Clone, Debug)]
pub struct AdamWState<B: Backend> {
    n_steps: u64,
    moments: BTreeMap<String, Moments<B>>,
}

/// Both running means of one parameter, whatever its number of axes.
#[derive(Clone, Debug)]
struct Moments<B: Backend> {
    shape: Vec<usize>,
    mean: TensorPrimitive<B>,
    square: TensorPrimitive<B>,
}

impl<B: Backend> Default for AdamWState<B> {
    fn default() -> Self {
        Self::new()
    }
}

impl<B: Backend> AdamWState<B> {
    /// No step taken: all means are zero.
    #[must_use]
    pub fn new() -> Self {
        Self { n_steps: 0, moments: BTreeMap::new() }
    }

    /// Steps taken.
    #[must_use]
    pub fn n_steps(&self) -> u64 {
        self.n_steps
    }

    /// The state as named arrays: `m.<parameter>`, `v.<parameter>` and `n_steps`.
    ///
    /// `n_steps` holds the quotient and the remainder of the count by 2^24.
    #[must_use]
    pub fn to_tensors(&self) -> Tensors {
        let mut tensors = Tensors::default();
        let limbs = [self.n_steps / LIMB, self.n_steps % LIMB].map(|limb| limb as f32);
        tensors.insert(N_STEPS, Array { shape: vec![2], data: limbs.to_vec() });
        for (name, moments) in &self.moments {
            for (kind, primitive) in [(MEAN, &moments.mean), (SQUARE, &moments.square)] {
                let flat: Tensor<B, 1> = Tensor::from_primitive(primitive.clone());
                let data = numbers(flat.into_data());
                let array = Array { shape: moments.shape.clone(), data };
                tensors.insert(format!("{kind}{name}"), array);
            }
        }
        tensors
    }

    /// The state that [`Self::to_tensors`] wrote.
    ///
    /// # Errors
    ///
    /// `Incompatible`, if the count of steps is missing or no count, if a mean lacks its square or
    /// has another shape than it, or if an array is neither. Whether the state fits a model is
    /// asked by [`Self::check_fit`].
    pub fn from_tensors(tensors: &Tensors, device: &B::Device) -> Result<Self, Error> {
        let mut complaints = Vec::new();
        let n_steps = read_n_steps(tensors).unwrap_or_else(|complaint| {
            complaints.push(complaint);
            0
        });
        let mut moments = BTreeMap::new();
        let means = tensors.strip_prefix(MEAN);
        let squares = tensors.strip_prefix(SQUARE);
        for name in means.names().chain(squares.names()).collect::<BTreeSet<_>>() {
            match (means.get(name), squares.get(name)) {
                (Some(mean), Some(square)) if mean.shape == square.shape => {
                    let both = Moments {
                        shape: mean.shape.clone(),
                        mean: to_primitive::<B>(mean, device),
                        square: to_primitive::<B>(square, device),
                    };
                    moments.insert(name.to_owned(), both);
                }
                (Some(mean), Some(square)) => complaints.push(format!(
                    "`m.{name}` has shape {:?} and `v.{name}` has {:?}",
                    mean.shape, square.shape
                )),
                (None, _) => complaints.push(format!("`m.{name}` is missing")),
                (_, None) => complaints.push(format!("`v.{name}` is missing")),
            }
        }
        let known =
            |name: &str| name == N_STEPS || name.starts_with(MEAN) || name.starts_with(SQUARE);
        let strangers = tensors.names().filter(|name| !known(name));
        complaints.extend(strangers.map(|name| format!("`{name}` is no part of it")));
        if complaints.is_empty() {
            Ok(Self { n_steps, moments })
        } else {
            Err(Cause::OptimMisfit { complaints }.into())
        }
    }

    /// Checks that the state belongs to a model of this spec, or that no step was taken.
    ///
    /// # Errors
    ///
    /// `Incompatible`, with every parameter that is missing, unknown or of another shape.
    pub fn check_fit(&self, spec: &ModelSpec) -> Result<(), Error> {
        if self.n_steps == 0 && self.moments.is_empty() {
            return Ok(());
        }
        let mut shapes = Tensors::default();
        for (name, moments) in &self.moments {
            let n_values = moments.shape.iter().product();
            let array = Array { shape: moments.shape.clone(), data: vec![0.0; n_values] };
            shapes.insert(name.clone(), array);
        }
        let complaints = misfits(spec, &shapes);
        if complaints.is_empty() { Ok(()) } else { Err(Cause::OptimMisfit { complaints }.into()) }
    }
}

impl<B: Ops> AdamWState<B> {
    /// Takes one step: the model moved against its gradients.
    ///
    /// A parameter without a gradient stays as it is. The model and the gradients are taken by
    /// value so that the update can work in place.
    ///
    /// # Panics
    ///
    /// If the state belongs to a model of other shapes, see [`Self::check_fit`].
    #[must_use]
    pub fn step<A>(&mut self, model: Model<A>, grads: A::Gradients, hyper: &AdamW) -> Model<A>
    where
        A: AutodiffBackend<InnerBackend = B>,
    {
        let factor = hyper
            .clip_norm
            .map_or(1.0, |clip_norm| clip_factor(grad_norm(&model, &grads), clip_norm));
        self.n_steps += 1;
        let step = AdamWStep {
            lr: hyper.lr,
            beta1: hyper.beta1,
            beta2: hyper.beta2,
            epsilon: hyper.epsilon,
            weight_decay: hyper.weight_decay,
            step: self.n_steps,
        };
        let mut stepper = Stepper::<A> { path: Path::default(), grads, state: self, step, factor };
        model.map(&mut stepper)
    }
}

/// The Euclidean norm of all gradients of a model together.
///
/// It is added in double precision and in a fixed order. It is not finite exactly when some
/// gradient is not.
#[must_use]
pub fn grad_norm<A>(model: &Model<A>, grads: &A::Gradients) -> f64
where
    A: AutodiffBackend<InnerBackend: Ops>,
{
    struct Adder<'g, A: AutodiffBackend> {
        grads: &'g A::Gradients,
        total: f64,
    }
    impl<A: AutodiffBackend<InnerBackend: Ops>> ModuleVisitor<A> for Adder<'_, A> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<A, D>>) {
            if let Some(grad) = param.val().grad(self.grads) {
                self.total += sum_squares(grad);
            }
        }
    }
    let mut adder = Adder::<A> { grads, total: 0.0 };
    model.visit(&mut adder);
    adder.total.sqrt()
}

/// The gradients of a model by parameter name, copied out of the backend.
///
/// A parameter without a gradient is left out.
///
/// # Panics
///
/// If the backend does not compute in single precision.
#[must_use]
pub fn read_grads<A: AutodiffBackend>(model: &Model<A>, grads: &A::Gradients) -> Tensors {
    struct Reader<'g, A: AutodiffBackend> {
        path: Path,
        grads: &'g A::Gradients,
        tensors: Tensors,
    }
    impl<A: AutodiffBackend> ModuleVisitor<A> for Reader<'_, A> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }

        fn exit_module(&mut self, _name: &str, container: &str) {
            self.path.exit(container);
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<A, D>>) {
            if let Some(grad) = param.val().grad(self.grads) {
                let shape = grad.dims().to_vec();
                let array = Array { shape, data: numbers(grad.into_data()) };
                self.tensors.insert(self.path.name(), array);
            }
        }
    }
    let mut reader = Reader::<A> { path: Path::default(), grads, tensors: Tensors::default() };
    model.visit(&mut reader);
    reader.tensors
}

/// By what gradients are multiplied so that their norm is at most `clip_norm`.
fn clip_factor(norm: f64, clip_norm: f64) -> f64 {
    (clip_norm / (norm + CLIP_EPSILON)).min(1.0)
}

/// Moves each parameter of a model by one step.
struct Stepper<'s, A: AutodiffBackend> {
    path: Path,
    grads: A::Gradients,
    state: &'s mut AdamWState<A::InnerBackend>,
    step: AdamWStep,
    factor: f64,
}

impl<A: AutodiffBackend<InnerBackend: Ops>> ModuleMapper<A> for Stepper<'_, A> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, container: &str) {
        self.path.exit(container);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<A, D>>) -> Param<Tensor<A, D>> {
        let (id, tensor, mapper) = param.consume();
        let Some(grad) = tensor.grad_remove(&mut self.grads) else {
            return Param::from_mapped_value(id, tensor, mapper);
        };
        let name = self.path.name();
        let grad = if self.factor < 1.0 { grad.mul_scalar(self.factor) } else { grad };
        let tensor = tensor.inner();
        let shape = tensor.dims().to_vec();
        let (mean, square) = match self.state.moments.remove(&name) {
            Some(before) => {
                assert_eq!(before.shape, shape, "the moments of `{name}` have another shape");
                (Tensor::from_primitive(before.mean), Tensor::from_primitive(before.square))
            }
            None => (tensor.zeros_like(), tensor.zeros_like()),
        };
        let (tensor, mean, square) = adamw_step(tensor, grad, mean, square, &self.step);
        let after = Moments { shape, mean: mean.into_primitive(), square: square.into_primitive() };
        self.state.moments.insert(name, after);
        Param::from_mapped_value(id, Tensor::from_inner(tensor).require_grad(), mapper)
    }
}

fn to_primitive<B: Backend>(array: &Array, device: &B::Device) -> TensorPrimitive<B> {
    let data = TensorData::new(array.data.clone(), array.shape.clone());
    TensorPrimitive::Float(B::float_from_data(data, device))
}

fn read_n_steps(tensors: &Tensors) -> Result<u64, String> {
    let Some(array) = tensors.get(N_STEPS) else {
        return Err(format!("`{N_STEPS}` is missing"));
    };
    let limb = |value: f32| {
        (value.fract() == 0.0 && (0.0..LIMB as f32).contains(&value)).then_some(value as u64)
    };
    match array.data[..] {
        [high, low] => limb(high).zip(limb(low)).map(|(high, low)| high * LIMB + low),
        _ => None,
    }
    .ok_or_else(|| format!("`{N_STEPS}` is {:?}, not a count", array.data))
}
