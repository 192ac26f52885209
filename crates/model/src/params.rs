//! Parameters as plain numbers with names, independent of any backend.
//!
//! Names are paths in the tree of a model, such as `blocks.0.attn.qkv.weight`; [`crate::layout`]
//! lists them. A set of them is written as a safetensors file, which nothing can execute.

use std::collections::{BTreeMap, BTreeSet};

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

use crate::error::{Cause, Error};
use crate::layout::layout;
use crate::model::Model;
use crate::spec::ModelSpec;

pub use crate::safetensor::{from_safetensors, to_safetensors};

/// Numbers with a shape, the last axis running fastest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Array {
    /// Length of each axis.
    pub shape: Vec<usize>,
    /// The numbers; as many as the product of `shape`.
    pub data: Vec<f32>,
}

/// Arrays by name, in the order of their names.
///
/// # Example
///
/// ```
/// use mnemoscope_model::params::{Array, Tensors};
///
/// let mut inner = Tensors::default();
/// inner.insert("w", Array { shape: vec![2], data: vec![1.0, 2.0] });
/// let mut file = Tensors::default();
/// file.extend_prefixed("params.", &inner);
/// assert_eq!(file.names().collect::<Vec<_>>(), ["params.w"]);
/// assert_eq!(file.strip_prefix("params."), inner);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tensors(BTreeMap<String, Array>);

impl Tensors {
    /// The array called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Array> {
        self.0.get(name)
    }

    /// Adds an array, or replaces the one of that name.
    ///
    /// # Panics
    ///
    /// If the array does not hold as many numbers as its shape says.
    #[track_caller]
    pub fn insert(&mut self, name: impl Into<String>, array: Array) {
        let name = name.into();
        assert_eq!(
            array.data.len(),
            array.shape.iter().product::<usize>(),
            "`{name}` does not hold as many numbers as its shape {:?} says",
            array.shape
        );
        self.0.insert(name, array);
    }

    /// Takes the array called `name` out.
    pub fn remove(&mut self, name: &str) -> Option<Array> {
        self.0.remove(name)
    }

    /// Names and arrays, in the order of names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Array)> {
        self.0.iter().map(|(name, array)| (name.as_str(), array))
    }

    /// All names, in order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Number of arrays.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no arrays.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of numbers in all arrays.
    #[must_use]
    pub fn n_values(&self) -> usize {
        self.0.values().map(|array| array.data.len()).sum()
    }

    /// Adds copies of all arrays of `other`, with `prefix` before their names.
    pub fn extend_prefixed(&mut self, prefix: &str, other: &Self) {
        for (name, array) in &other.0 {
            self.0.insert(format!("{prefix}{name}"), array.clone());
        }
    }

    /// The arrays of several models of one shape, those of each behind those of the one before along the first axis: the
    /// parameters of a cohort.
    ///
    /// # Panics
    ///
    /// If there is none, or if they are not of the same names and shapes.
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_model::params::{Array, Tensors};
    ///
    /// let member = |x: f32| {
    ///     let mut tensors = Tensors::default();
    ///     tensors.insert("gain", Array { shape: vec![2], data: vec![x; 2] });
    ///     tensors
    /// };
    /// let all = Tensors::stack(&[member(1.0), member(2.0)]);
    /// assert_eq!(all.get("gain").unwrap().data, [1.0, 1.0, 2.0, 2.0]);
    /// assert_eq!(all.split(2), [member(1.0), member(2.0)]);
    /// ```
    #[must_use]
    #[track_caller]
    pub fn stack(members: &[Self]) -> Self {
        let (first, others) = members.split_first().expect("a cohort has a member");
        let mut stacked = first.clone();
        for other in others {
            assert!(other.names().eq(stacked.names()), "members have parameters of other names");
            for ((name, array), (_, first)) in stacked.0.iter_mut().zip(&first.0) {
                let other = &other.0[name];
                assert_eq!(other.shape, first.shape, "`{name}` of a member has another shape");
                array.shape[0] += other.shape[0];
                array.data.extend(&other.data);
            }
        }
        stacked
    }

    /// The arrays of each of `n_members` models: the inverse of [`stack`](Self::stack).
    ///
    /// # Panics
    ///
    /// If an array cannot be divided among so many.
    #[must_use]
    #[track_caller]
    pub fn split(&self, n_members: usize) -> Vec<Self> {
        let part = |Array { shape, data }: &Array, member: usize| {
            assert!(shape[0].is_multiple_of(n_members), "{shape:?} is not of {n_members} members");
            let (mut shape, n) = (shape.clone(), data.len() / n_members);
            shape[0] /= n_members;
            Array { shape, data: data[member * n..][..n].to_vec() }
        };
        let of = |member| {
            let arrays = self.0.iter().map(|(name, array)| (name.clone(), part(array, member)));
            Self(arrays.collect())
        };
        (0..n_members).map(of).collect()
    }

    /// Copies of the arrays whose names begin with `prefix`, without it.
    #[must_use]
    pub fn strip_prefix(&self, prefix: &str) -> Self {
        let stripped = self.0.iter().filter_map(|(name, array)| {
            Some((name.strip_prefix(prefix)?.to_owned(), array.clone()))
        });
        Self(stripped.collect())
    }
}

/// The numbers of a model by name, copied out of the backend.
///
/// # Panics
///
/// If the backend does not compute in single precision.
#[must_use]
pub fn read<B: Backend>(model: &Model<B>) -> Tensors {
    struct Reader {
        path: Path,
        tensors: Tensors,
    }
    impl<B: Backend> ModuleVisitor<B> for Reader {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }

        fn exit_module(&mut self, _name: &str, container: &str) {
            self.path.exit(container);
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            let value = param.val();
            let shape = value.dims().to_vec();
            let array = Array { shape, data: numbers(value.into_data()) };
            self.tensors.insert(self.path.name(), array);
        }
    }
    let mut reader = Reader { path: Path::default(), tensors: Tensors::default() };
    model.visit(&mut reader);
    reader.tensors
}

/// The numbers of a tensor that is known to be single precision.
#[track_caller]
pub(crate) fn numbers(data: TensorData) -> Vec<f32> {
    data.into_vec::<f32>().expect("the model computes in single precision")
}

/// Where a visitor or mapper of a model stands.
#[derive(Debug, Default)]
pub(crate) struct Path(Vec<String>);

impl Path {
    pub(crate) fn enter(&mut self, name: &str, container: &str) {
        // The kind of model is no part of a parameter's name.
        if !container.starts_with("Enum:") {
            self.0.push(name.to_owned());
        }
    }

    pub(crate) fn exit(&mut self, container: &str) {
        if !container.starts_with("Enum:") {
            self.0.pop();
        }
    }

    pub(crate) fn name(&self) -> String {
        self.0.join(".")
    }
}

/// Compares names and shapes with what the model needs.
pub(crate) fn check_fit(spec: &ModelSpec, tensors: &Tensors) -> Result<(), Error> {
    let complaints = misfits(spec, tensors, |_| true);
    if complaints.is_empty() { Ok(()) } else { Err(Cause::Misfit { complaints }.into()) }
}

/// What keeps the arrays from being the parameters of the model whose names are `needed`, each in a
/// sentence.
pub(crate) fn misfits(
    spec: &ModelSpec,
    tensors: &Tensors,
    needed: impl Fn(&str) -> bool,
) -> Vec<String> {
    let slots = layout(spec);
    let mut complaints = Vec::new();
    for slot in &slots {
        match tensors.get(&slot.name) {
            None if !needed(&slot.name) => {}
            None => complaints.push(format!("`{}` is missing", slot.name)),
            Some(array) if array.shape != slot.shape => complaints.push(format!(
                "`{}` has shape {:?}, the model needs {:?}",
                slot.name, array.shape, slot.shape
            )),
            Some(_) => {}
        }
    }
    let known: BTreeSet<&str> = slots.iter().map(|slot| slot.name.as_str()).collect();
    let strangers = tensors.names().filter(|name| !known.contains(name));
    complaints.extend(strangers.map(|name| format!("the model has no parameter `{name}`")));
    complaints
}

/// Where a model takes its parameters from while it is put together.
#[derive(Debug)]
pub(crate) struct Source<'d, B: Backend> {
    tensors: Tensors,
    device: &'d B::Device,
}

impl<'d, B: Backend> Source<'d, B> {
    /// The tensors must fit the model: see [`check_fit`].
    pub(crate) fn new(tensors: Tensors, device: &'d B::Device) -> Self {
        Self { tensors, device }
    }

    pub(crate) fn device(&self) -> &'d B::Device {
        self.device
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.get(name).is_some()
    }

    /// Moves the parameter called `name` into the backend.
    #[track_caller]
    pub(crate) fn param<const D: usize>(&mut self, name: &str) -> Param<Tensor<B, D>> {
        self.optional(name).unwrap_or_else(|| panic!("the layout lists no parameter `{name}`"))
    }

    /// As [`Self::param`], if there is one of that name.
    pub(crate) fn optional<const D: usize>(&mut self, name: &str) -> Option<Param<Tensor<B, D>>> {
        let Array { shape, data } = self.tensors.remove(name)?;
        let tensor = Tensor::<B, D>::from_data(TensorData::new(data, shape), self.device);
        Some(Param::initialized(ParamId::new(), tensor.require_grad()))
    }
}

#[cfg(test)]
mod tests {
    use mnemoscope_engine::device::{Cpu, CpuAutodiff, cpu};
    use mnemoscope_stats::stream::Stream;

    use super::*;
    use crate::error::ErrorKind;
    use crate::spec::{AssociativeSpec, FeedForward, LstmSpec, Memory, Places, TransformerSpec};

    fn specs() -> [ModelSpec; 12] {
        let tiny = TransformerSpec { n_ctx: 9, ..TransformerSpec::x_transformers(3, 8, 2) };
        [
            ModelSpec::Transformer(tiny.clone()),
            ModelSpec::Transformer(TransformerSpec {
                positions: crate::Positions::None,
                tie_unembed: true,
                ..tiny
            }),
            ModelSpec::Transformer(TransformerSpec::gpt2(2, 8, 4)),
            ModelSpec::Transformer(TransformerSpec {
                mlp_from_layer: 1,
                d_model: 8,
                ..TransformerSpec::birth_full()
            }),
            ModelSpec::Transformer(TransformerSpec {
                norm: crate::Norm::Post,
                mlp: crate::Mlp::Linear,
                d_mlp: 0,
                d_model: 8,
                parallel_mlp: false,
                ..TransformerSpec::birth_full()
            }),
            ModelSpec::Transformer(TransformerSpec {
                norm: crate::Norm::None,
                d_model: 8,
                ..TransformerSpec::birth_full()
            }),
            ModelSpec::Transformer(TransformerSpec {
                own_v: true,
                identity_v: vec![0],
                identity_out: vec![1],
                d_model: 8,
                ..TransformerSpec::birth_full()
            }),
            ModelSpec::Associative(AssociativeSpec {
                d_model: 6,
                factored: vec![Memory::K1, Memory::Out2, Memory::Mlp],
                d_inner: 3,
                normalised: vec![Memory::K2],
                ..AssociativeSpec::birth()
            }),
            ModelSpec::Associative(AssociativeSpec {
                d_model: 6,
                mlp: FeedForward::Relu,
                mlp_bias: true,
                ..AssociativeSpec::birth()
            }),
            ModelSpec::Lstm(LstmSpec { n_layers: 2, d_model: 6, d_vocab: 5 }),
            ModelSpec::Associative(AssociativeSpec {
                d_model: 6,
                n_ctx: 9,
                ..AssociativeSpec::birth()
            }),
            ModelSpec::Associative(AssociativeSpec {
                d_model: 6,
                first_mlp: FeedForward::Relu,
                places: Places::Sinusoidal,
                ..AssociativeSpec::birth()
            }),
        ]
    }

    #[test]
    fn a_model_has_exactly_the_parameters_of_its_layout() {
        for spec in specs() {
            let model = Model::<CpuAutodiff>::init(&spec, &Stream::root(0), &cpu());
            let params = model.params();
            check_fit(&spec, &params).unwrap();
            assert_eq!(params.n_values() as u64, spec.n_params().unwrap());
            assert_eq!(model.num_params() as u64, spec.n_params().unwrap());
            assert_eq!(model.spec(), spec);
        }
    }

    #[test]
    fn reading_loading_and_the_file_keep_every_bit() {
        for spec in specs() {
            let model = Model::<Cpu>::init(&spec, &Stream::root(1), &cpu());
            let params = model.params();
            let bytes = to_safetensors(&params, &BTreeMap::new());
            let (read, _) = from_safetensors(&bytes).unwrap();
            assert_eq!(read, params);
            let other = Model::<Cpu>::init(&spec, &Stream::root(2), &cpu());
            assert_ne!(other.params(), params);
            assert_eq!(other.load(&read).unwrap().params(), params);
        }
    }

    #[test]
    fn a_misfit_names_every_parameter_that_is_wrong() {
        let spec = ModelSpec::Lstm(LstmSpec { n_layers: 1, d_model: 2, d_vocab: 5 });
        let model = Model::<Cpu>::init(&spec, &Stream::root(0), &cpu());
        let mut params = model.params();
        params.remove("unembed.bias");
        params.insert("embed.weight", Array { shape: vec![2, 2], data: vec![0.0; 4] });
        params.insert("unembed.scale", Array { shape: vec![1], data: vec![0.0] });
        let why = model.load(&params).unwrap_err();
        assert_eq!(why.kind(), ErrorKind::Incompatible);
        assert_eq!(
            why.to_string(),
            "the parameters do not fit the model: `embed.weight` has shape [2, 2], the model \
             needs [5, 2]; `unembed.bias` is missing; the model has no parameter `unembed.scale`"
        );
    }
}
