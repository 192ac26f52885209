//! The optimiser over the parameters of a model, which it knows by their names.
//!
//! One step of all parameters is one pass. The rules are the engine's. All parameters decay, as in the
//! reproductions of Liu et al.; there are no parameter groups.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Shape, Tensor, TensorData};
use mnemoscope_engine::Ops;
use mnemoscope_engine::optim::{Learned, Pace, sums_of_squares, sums_of_squares_each, update_each};

pub use mnemoscope_engine::optim::{AdamW, Rule, Sgd};

use crate::error::{Cause, Error};
use crate::model::Model;
use crate::params::{Array, Path, Tensors, misfits, numbers};
use crate::spec::ModelSpec;

/// The number of steps in the stored form.
const N_STEPS: &str = "n_steps";

/// Before the name of a parameter in the stored form, if it began to move late: the steps before.
const BEGUN: &str = "begun";

/// A step count is stored as two numbers below this, because every stored number is a float.
const LIMB: u64 = 1 << 24;

/// Added to a norm before dividing by it, as `torch.nn.utils.clip_grad_norm_` does.
const CLIP_EPSILON: f64 = 1e-6;

/// How one member of a cohort takes a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stride {
    /// Its rule; those of a cohort are of one kind.
    pub rule: Rule,
    /// The largest Euclidean norm that all its gradients together may have; those of a larger one are scaled to it.
    pub clip_norm: Option<f64>,
}

/// What an optimiser remembers: the steps taken, and what its rule keeps of each parameter.
///
/// `B` is the backend without gradients.
///
/// # Example
///
/// ```
/// use mnemoscope_engine::{Ops, QueryRows, burn::tensor::Tensor, device::{CpuAutodiff, cpu}};
/// use mnemoscope_model::{LstmSpec, Model, ModelSpec, hook::NoHooks};
/// use mnemoscope_model::optim::{AdamW, OptimState, Rule};
/// use mnemoscope_stats::stream::Stream;
///
/// let spec = ModelSpec::Lstm(LstmSpec { n_layers: 1, d_model: 8, d_vocab: 5 });
/// let mut model = Model::<CpuAutodiff>::init(&spec, &Stream::root(0), &cpu());
/// let rule = Rule::AdamW(AdamW {
///     lr: 0.01, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.1,
/// });
/// let mut state = OptimState::new(&rule);
/// let mut losses = Vec::new();
/// for _ in 0..5 {
///     let tokens = Tensor::from_data([[0, 4, 1]], &cpu());
///     let logits = model.logits(tokens, &QueryRows::new(3, vec![(0, 2)]), &mut NoHooks);
///     let loss = CpuAutodiff::cross_entropy(logits, Tensor::from_data([4], &cpu()));
///     losses.push(loss.clone().into_scalar());
///     state.step(&mut model, loss.backward(), &rule, None).unwrap();
/// }
/// assert!(losses.is_sorted_by(|a, b| a > b), "{losses:?}");
/// assert_eq!(state.n_steps(), 5);
/// ```
#[derive(Clone, Debug)]
pub struct OptimState<B: Backend> {
    n_steps: u64,
    /// The names of the rows of each parameter: [`Rule::kept`].
    row_names: &'static [&'static str],
    kept: BTreeMap<String, Kept<B>>,
}

/// What is kept of one parameter: its shape, and rows of as many numbers as it has.
#[derive(Clone, Debug)]
struct Kept<B: Backend> {
    shape: Vec<usize>,
    /// Steps of the optimiser before the first that moved this parameter: it was frozen.
    begun: u64,
    rows: Vec<Tensor<B, 1>>,
}

impl<B: Backend> OptimState<B> {
    /// No step taken: nothing but zeros is kept. It serves the rules that keep the same as `rule`.
    #[must_use]
    pub fn new(rule: &Rule) -> Self {
        Self { n_steps: 0, row_names: rule.kept(), kept: BTreeMap::new() }
    }

    /// Steps taken.
    #[must_use]
    pub fn n_steps(&self) -> u64 {
        self.n_steps
    }

    /// The state of a [cohort](Model::cohort) whose members have these.
    ///
    /// # Panics
    ///
    /// If there is none, or if they have not taken equally many steps of the same parameters.
    #[must_use]
    #[track_caller]
    pub fn stack(members: &[Self]) -> Self {
        let first = members.first().expect("a cohort has a member");
        let mut stacked = first.clone();
        for (name, kept) in &mut stacked.kept {
            let of_members: Vec<&Kept<B>> = members
                .iter()
                .map(|member| {
                    let theirs = member.kept.get(name).expect("members learn the same parameters");
                    assert_eq!(
                        (member.n_steps, theirs.begun),
                        (first.n_steps, kept.begun),
                        "members have taken other steps of `{name}`"
                    );
                    theirs
                })
                .collect();
            let all = |row: usize| of_members.iter().map(|kept| kept.rows[row].clone()).collect();
            kept.rows = (0..kept.rows.len()).map(|row| Tensor::cat(all(row), 0)).collect();
            kept.shape[0] *= members.len();
        }
        stacked
    }

    /// The state as named arrays: `n_steps`, and by rule `m.<parameter>` and `v.<parameter>`, or
    /// `momentum.<parameter>`.
    ///
    /// `n_steps` holds the quotient and the remainder of the count by 2^24, and so does
    /// `begun.<parameter>` of one that was frozen for so many steps.
    #[must_use]
    pub fn to_tensors(&self) -> Tensors {
        let mut tensors = Tensors::default();
        tensors.insert(N_STEPS, count_array(self.n_steps));
        for (name, Kept { shape, begun, rows }) in &self.kept {
            if *begun > 0 {
                tensors.insert(format!("{BEGUN}.{name}"), count_array(*begun));
            }
            for (row_name, row) in self.row_names.iter().zip(rows) {
                let array = Array { shape: shape.clone(), data: numbers(row.to_data()) };
                tensors.insert(format!("{row_name}.{name}"), array);
            }
        }
        tensors
    }

    /// [`to_tensors`](Self::to_tensors) of each of the `n_members` of a [cohort](Model::cohort), read together.
    #[must_use]
    pub fn to_tensors_each(&self, n_members: usize) -> Vec<Tensors> {
        let (mut counts, mut rows) = (Tensors::default(), Tensors::default());
        for (name, array) in self.to_tensors().iter() {
            let is_count =
                name == N_STEPS || name.split_once('.').is_some_and(|(of, _)| of == BEGUN);
            if is_count { &mut counts } else { &mut rows }.insert(name, array.clone());
        }
        let mut members = rows.split(n_members);
        for member in &mut members {
            member.extend_prefixed("", &counts);
        }
        members
    }

    /// The state that [`Self::to_tensors`] wrote of an optimiser with such a rule.
    ///
    /// # Errors
    ///
    /// `Incompatible`, if the count of steps is missing or no count, if a parameter lacks one of its
    /// rows or has rows of two shapes, or if an array is no such row. Whether the state fits a model
    /// is asked by [`Self::check_fit`].
    pub fn from_tensors(rule: &Rule, tensors: &Tensors, device: &B::Device) -> Result<Self, Error> {
        let mut state = Self::new(rule);
        let mut complaints = Vec::new();
        match read_count(tensors, N_STEPS) {
            Ok(n_steps) => state.n_steps = n_steps,
            Err(complaint) => complaints.push(complaint),
        }
        let param_of = |name: &str| {
            let (row_name, param) = name.split_once('.')?;
            let known = row_name == BEGUN || state.row_names.contains(&row_name);
            known.then(|| param.to_owned())
        };
        let params: BTreeSet<String> = tensors.names().filter_map(param_of).collect();
        for param in params {
            match read_rows(&param, state.row_names, tensors, device) {
                Ok(kept) => {
                    state.kept.insert(param, kept);
                }
                Err(complaint) => complaints.push(complaint),
            }
        }
        let strangers = tensors.names().filter(|name| *name != N_STEPS && param_of(name).is_none());
        complaints.extend(strangers.map(|name| format!("`{name}` is no part of it")));
        if complaints.is_empty() {
            Ok(state)
        } else {
            Err(Cause::OptimMisfit { complaints }.into())
        }
    }

    /// Checks that the state belongs to a model of this spec, or that no step was taken.
    ///
    /// # Arguments
    ///
    /// - `learned`: whether the parameter of a name has learned so far; nothing is kept of another.
    ///
    /// # Errors
    ///
    /// `Incompatible`, with every parameter that is missing, unknown or of another shape.
    pub fn check_fit(&self, spec: &ModelSpec, learned: impl Fn(&str) -> bool) -> Result<(), Error> {
        if self.n_steps == 0 && self.kept.is_empty() {
            return Ok(());
        }
        let mut shapes = Tensors::default();
        for (name, Kept { shape, .. }) in &self.kept {
            let n_values = shape.iter().product();
            shapes.insert(name, Array { shape: shape.clone(), data: vec![0.0; n_values] });
        }
        let complaints = misfits(spec, &shapes, learned);
        if complaints.is_empty() { Ok(()) } else { Err(Cause::OptimMisfit { complaints }.into()) }
    }
}

impl<B: Ops> OptimState<B> {
    /// Takes one step: the model moves against its gradients, all parameters in one pass.
    ///
    /// A parameter without a gradient stays as it is. Nothing of the size of a parameter is allocated
    /// after the first step.
    ///
    /// # Arguments
    ///
    /// - `clip_norm`: the largest Euclidean norm that all gradients together may have; those of a
    ///   larger one are scaled to it.
    ///
    /// # Errors
    ///
    /// `NotFinite`, if a gradient is not, or a number that the step gives a parameter or its rows;
    /// of several, it names the last parameter of the model, whose gradient is the first that the
    /// backward pass comes to. If gradients are clipped, their norm shows it and nothing has moved;
    /// otherwise the pass itself does, and neither the model nor the state is of further use.
    ///
    /// # Panics
    ///
    /// If the state belongs to a model of other shapes, see [`Self::check_fit`], or to another rule.
    pub fn step<A>(
        &mut self,
        model: &mut Model<A>,
        grads: A::Gradients,
        rule: &Rule,
        clip_norm: Option<f64>,
    ) -> Result<(), Error>
    where
        A: AutodiffBackend<InnerBackend = B>,
    {
        let stride = Stride { rule: *rule, clip_norm };
        self.step_each(model, grads, &[stride]).pop().expect("a model alone is one member")
    }

    /// [`step`](Self::step) of a [cohort](Model::cohort), and how it went for each of its members.
    ///
    /// What one of them does wrong does not touch the others; its own numbers are of no further use.
    ///
    /// # Panics
    ///
    /// As [`step`](Self::step); if the rules are not of one kind, or there are not as many as members.
    pub fn step_each<A>(
        &mut self,
        model: &mut Model<A>,
        grads: A::Gradients,
        strides: &[Stride],
    ) -> Vec<Result<(), Error>>
    where
        A: AutodiffBackend<InnerBackend = B>,
    {
        let of_rule = |stride: &Stride| stride.rule.kept() == self.row_names;
        assert!(strides.iter().all(of_rule), "the state was begun with another rule");
        let path = Path::default();
        let mut taker = Taker::<A> { path, grads, state: self, places: vec![], learned: vec![] };
        let hollow = std::mem::replace(model, Model::placeholder()).map(&mut taker);
        let Taker { places, learned, .. } = taker;
        let begun: Vec<u64> = places.iter().map(|place| place.begun).collect();
        let (learned, found) = self.moved(learned, &begun, strides);
        let error = |(what, idx): Wrong| {
            Err(Cause::NotFinite { what, param: places[idx].name.clone() }.into())
        };
        let ends = found.into_iter().map(|found| found.map_or(Ok(()), error)).collect();
        let mut params = Vec::with_capacity(places.len());
        for (Place { id, name, shape, begun }, learned) in places.into_iter().zip(learned) {
            params.push((id, Shape::from(shape.clone()), learned.param));
            self.kept.insert(name, Kept { shape, begun, rows: learned.kept });
        }
        *model = hollow.map(&mut Giver::<B> { params: params.into_iter().peekable() });
        ends
    }

    /// The parameters after a step, and what is not finite of which of them, for each member.
    ///
    /// # Arguments
    ///
    /// - `begun`: for each, the steps before it began to learn. Its own first step is one.
    fn moved(
        &mut self,
        learned: Vec<Learned<B>>,
        begun: &[u64],
        strides: &[Stride],
    ) -> (Vec<Learned<B>>, Vec<Option<Wrong>>) {
        const GRADIENT: &str = "the gradient of";
        let (n_params, n_members) = (learned.len(), strides.len());
        let squares = |learned: &[Learned<B>]| {
            let grads = learned.iter().map(|learned| learned.grad.clone()).collect();
            sums_of_squares_each(grads, n_members)
        };
        let place = |member: usize| move |which: usize| which * n_members + member;
        let first_wrong = |squares: &[f64], member| {
            (0..n_params).map(place(member)).rposition(|at| !squares[at].is_finite())
        };
        let mut found = vec![None; n_members];
        let mut grad_scales = vec![1.0; n_members];
        if strides.iter().any(|stride| stride.clip_norm.is_some()) {
            let squares = squares(&learned);
            for (member, Stride { clip_norm, .. }) in strides.iter().enumerate() {
                let Some(clip_norm) = *clip_norm else { continue };
                found[member] = first_wrong(&squares, member).map(|idx| (GRADIENT, idx));
                let sum: f64 = (0..n_params).map(place(member)).map(|at| squares[at]).sum();
                grad_scales[member] = clip_factor(sum.sqrt(), clip_norm);
            }
            if found.iter().all(Option::is_some) {
                return (learned, found);
            }
        }
        self.n_steps += 1;
        let paces: Vec<Pace> = (strides.iter().zip(grad_scales))
            .map(|(stride, grad_scale)| Pace { rule: stride.rule, grad_scale })
            .collect();
        let (learned, finite) = update_by_age(learned, begun, &paces, self.n_steps);
        let beyond = |member| (0..n_params).map(place(member)).rposition(|at| !finite[at]);
        if (0..n_members).any(|member| beyond(member).is_some()) {
            let squares = squares(&learned);
            for (member, found) in found.iter_mut().enumerate().filter(|(_, it)| it.is_none()) {
                *found = beyond(member).map(|idx| match first_wrong(&squares, member) {
                    Some(idx) => (GRADIENT, idx),
                    None => ("what the step makes of", idx),
                });
            }
        }
        (learned, found)
    }
}

/// One pass over all parameters that have learned for equally many steps; mostly one in all.
fn update_by_age<B: Ops>(
    learned: Vec<Learned<B>>,
    begun: &[u64],
    paces: &[Pace],
    n_steps: u64,
) -> (Vec<Learned<B>>, Vec<bool>) {
    let ages: BTreeSet<u64> = begun.iter().copied().collect();
    if ages.len() <= 1 {
        let begun = ages.first().copied().unwrap_or(0);
        return update_each(learned, paces, n_steps - begun);
    }
    let mut moved: Vec<Option<(Learned<B>, Vec<bool>)>> = learned.iter().map(|_| None).collect();
    let mut learned: Vec<Option<Learned<B>>> = learned.into_iter().map(Some).collect();
    for age in ages {
        let places: Vec<usize> = (0..begun.len()).filter(|&idx| begun[idx] == age).collect();
        let group = places.iter().filter_map(|&idx| learned[idx].take()).collect();
        let (group, finite) = update_each(group, paces, n_steps - age);
        let finite = finite.chunks(paces.len()).map(<[bool]>::to_vec);
        for (idx, done) in places.into_iter().zip(group.into_iter().zip(finite)) {
            moved[idx] = Some(done);
        }
    }
    let (moved, finite): (Vec<_>, Vec<_>) = moved.into_iter().flatten().unzip();
    (moved, finite.concat())
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
    let (_, rows) = grad_rows(model, grads);
    sums_of_squares(rows).iter().sum::<f64>().sqrt()
}

/// The Euclidean norms of the gradients of a model by parameter name.
///
/// A parameter without a gradient is left out.
#[must_use]
pub fn grad_norms<A>(model: &Model<A>, grads: &A::Gradients) -> BTreeMap<String, f64>
where
    A: AutodiffBackend<InnerBackend: Ops>,
{
    let (names, rows) = grad_rows(model, grads);
    names.into_iter().zip(sums_of_squares(rows).into_iter().map(f64::sqrt)).collect()
}

/// Names of the parameters that have a gradient, and all its numbers in a row.
fn grad_rows<A: AutodiffBackend>(
    model: &Model<A>,
    grads: &A::Gradients,
) -> (Vec<String>, Vec<Tensor<A::InnerBackend, 1>>) {
    struct Collector<'g, A: AutodiffBackend> {
        path: Path,
        grads: &'g A::Gradients,
        names: Vec<String>,
        rows: Vec<Tensor<A::InnerBackend, 1>>,
    }
    impl<A: AutodiffBackend> ModuleVisitor<A> for Collector<'_, A> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }

        fn exit_module(&mut self, _name: &str, container: &str) {
            self.path.exit(container);
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<A, D>>) {
            if let Some(grad) = param.val().grad(self.grads) {
                self.names.push(self.path.name());
                self.rows.push(to_row(grad));
            }
        }
    }
    let mut collector =
        Collector::<A> { path: Path::default(), grads, names: Vec::new(), rows: Vec::new() };
    model.visit(&mut collector);
    (collector.names, collector.rows)
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

/// What is not finite, and of which parameter.
type Wrong = (&'static str, usize);

/// Where a parameter that was taken out of its model belongs.
struct Place {
    id: ParamId,
    name: String,
    shape: Vec<usize>,
    /// As in [`Kept`].
    begun: u64,
}

/// Takes every parameter that has a gradient out of a model, so that nobody else holds its numbers
/// and they can be updated in place. Empty tensors stand in for them.
struct Taker<'s, A: AutodiffBackend> {
    path: Path,
    grads: A::Gradients,
    state: &'s mut OptimState<A::InnerBackend>,
    places: Vec<Place>,
    learned: Vec<Learned<A::InnerBackend>>,
}

impl<A: AutodiffBackend> ModuleMapper<A> for Taker<'_, A> {
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
        let (name, shape) = (self.path.name(), tensor.dims().to_vec());
        let empty = Tensor::empty([0; D], &tensor.device());
        let param = to_row(tensor.inner());
        let (begun, kept) = match self.state.kept.remove(&name) {
            Some(kept) => {
                assert_eq!(kept.shape, shape, "what is kept of `{name}` has another shape");
                (kept.begun, kept.rows)
            }
            None => {
                let rows = self.state.row_names.iter().map(|_| param.zeros_like()).collect();
                (self.state.n_steps, rows)
            }
        };
        self.places.push(Place { id, name, shape, begun });
        self.learned.push(Learned { param, grad: to_row(grad), kept });
        Param::from_mapped_value(id, empty, mapper)
    }
}

/// Puts parameters back where a [`Taker`] took them.
struct Giver<B: Backend> {
    params: Peekable<std::vec::IntoIter<(ParamId, Shape, Tensor<B, 1>)>>,
}

impl<A: AutodiffBackend> ModuleMapper<A> for Giver<A::InnerBackend> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<A, D>>) -> Param<Tensor<A, D>> {
        let (id, tensor, mapper) = param.consume();
        let Some((_, shape, row)) = self.params.next_if(|(taken, ..)| *taken == id) else {
            return Param::from_mapped_value(id, tensor, mapper);
        };
        let tensor = Tensor::from_inner(row.reshape::<D, _>(shape)).require_grad();
        Param::from_mapped_value(id, tensor, mapper)
    }
}

/// All numbers of a tensor in a row.
fn to_row<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Tensor<B, 1> {
    let n_values = tensor.dims().iter().product::<usize>();
    tensor.reshape([n_values])
}

/// The rows of one parameter out of their stored form.
fn read_rows<B: Backend>(
    param: &str,
    row_names: &[&str],
    tensors: &Tensors,
    device: &B::Device,
) -> Result<Kept<B>, String> {
    let begun = format!("{BEGUN}.{param}");
    let begun = if tensors.get(&begun).is_some() { read_count(tensors, &begun)? } else { 0 };
    let mut kept: Option<Kept<B>> = None;
    for row_name in row_names {
        let name = format!("{row_name}.{param}");
        let Array { shape, data } =
            tensors.get(&name).ok_or_else(|| format!("`{name}` is missing"))?;
        let kept =
            kept.get_or_insert_with(|| Kept { shape: shape.clone(), begun, rows: Vec::new() });
        if kept.shape != *shape {
            return Err(format!(
                "`{}.{param}` has shape {:?} and `{name}` has {shape:?}",
                row_names[0], kept.shape
            ));
        }
        let row = TensorData::new(data.clone(), [data.len()]);
        kept.rows.push(Tensor::from_data(row, device));
    }
    kept.ok_or_else(|| format!("nothing is kept of `{param}`"))
}

/// A count as two numbers that single precision holds.
fn count_array(count: u64) -> Array {
    let limbs = [count / LIMB, count % LIMB].map(|limb| limb as f32);
    Array { shape: vec![2], data: limbs.to_vec() }
}

fn read_count(tensors: &Tensors, name: &str) -> Result<u64, String> {
    let Some(array) = tensors.get(name) else {
        return Err(format!("`{name}` is missing"));
    };
    let limb = |value: f32| {
        (value.fract() == 0.0 && (0.0..LIMB as f32).contains(&value)).then_some(value as u64)
    };
    match array.data[..] {
        [high, low] => limb(high).zip(limb(low)).map(|(high, low)| high * LIMB + low),
        _ => None,
    }
    .ok_or_else(|| format!("`{name}` is {:?}, not a count", array.data))
}
