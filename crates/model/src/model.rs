//! A model: an architecture with its numbers.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};
use mnemoscope_engine::{Ops, QueryRows};
use mnemoscope_stats::stream::Stream;

use crate::arch::{Associative, Lstm, Transformer};
use crate::error::{Cause, Error};
use crate::hook::{Hooks, NoHooks};
use crate::init;
use crate::params::{self, Path, Source, Tensors};
use crate::regular::{Bluntness, Regularisation};
use crate::spec::{LstmSpec, ModelSpec};

/// An architecture with its numbers.
///
/// A Burn module: on a backend with gradients its parameters have them, and
/// [`valid`](burn::module::AutodiffModule::valid) is the same model without.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "a run holds one model, and moves it once a step")]
pub enum Model<B: Backend> {
    /// A GPT-style decoder.
    Transformer(Transformer<B>),
    /// A long short-term memory.
    Lstm(Lstm<B>),
    /// Two layers of attention whose matrices are read as associative memories.
    Associative(Associative<B>),
}

impl<B: Backend> Model<B> {
    /// A model with its first numbers.
    ///
    /// # Randomness
    ///
    /// The parameter called `name` draws from `stream.derive(name).at(0)`, so its values depend on
    /// no other parameter. Of a normal law each number takes one [`normal`], of a uniform law one
    /// [`uniform`]; constants draw nothing.
    ///
    /// # Panics
    ///
    /// If the spec has complaints, see [`ModelSpec::check`].
    ///
    /// [`normal`]: mnemoscope_stats::stream::Draws::normal
    /// [`uniform`]: mnemoscope_stats::stream::Draws::uniform
    #[must_use]
    #[track_caller]
    pub fn init(spec: &ModelSpec, stream: &Stream, device: &B::Device) -> Self {
        Self::assemble(spec, init::draw(spec, stream), device)
    }

    /// A model with stored numbers.
    ///
    /// # Errors
    ///
    /// `Incompatible`, if a parameter is missing, unknown or has another shape; all such complaints
    /// at once.
    ///
    /// # Panics
    ///
    /// If the spec has complaints, see [`ModelSpec::check`].
    pub fn from_params(
        spec: &ModelSpec,
        tensors: Tensors,
        device: &B::Device,
    ) -> Result<Self, Error> {
        params::check_fit(spec, &tensors)?;
        Ok(Self::assemble(spec, tensors, device))
    }

    /// Models of one spec side by side, to be trained as one; `members` are the parameters of each.
    ///
    /// Its tokens are the batches of the members one behind another, equally many examples of each, and so are its
    /// queries and their logits, equally many of each. No number of one member depends on another. Hooks see nothing of it.
    ///
    /// # Errors
    ///
    /// `Incompatible`, if the parameters of a member are not those of the spec, or the model cannot be in a cohort: an
    /// associative one, whose matrices are multiplied with each other.
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_engine::{QueryRows, burn::tensor::Tensor, device::{CpuAutodiff, cpu}};
    /// use mnemoscope_model::{LstmSpec, Model, ModelSpec, hook::NoHooks};
    /// use mnemoscope_stats::stream::Stream;
    ///
    /// let spec = ModelSpec::Lstm(LstmSpec { n_layers: 1, d_model: 8, d_vocab: 5 });
    /// let alone = |seed| Model::<CpuAutodiff>::init(&spec, &Stream::root(seed), &cpu());
    /// let cohort = Model::<CpuAutodiff>::cohort(&spec, &[0, 1].map(|seed| alone(seed).params()), &cpu())?;
    /// let tokens = Tensor::from_data([[0, 4, 1], [2, 2, 3]], &cpu());
    /// let logits = cohort.logits(tokens, &QueryRows::new(3, vec![(0, 2), (1, 1)]), &mut NoHooks);
    /// let second = alone(1).logits(
    ///     Tensor::from_data([[2, 2, 3]], &cpu()), &QueryRows::new(3, vec![(0, 1)]), &mut NoHooks);
    /// let both = logits.into_data().to_vec::<f32>().unwrap();
    /// assert_eq!(both[5..], second.into_data().to_vec::<f32>().unwrap());
    /// # Ok::<(), mnemoscope_model::Error>(())
    /// ```
    pub fn cohort(
        spec: &ModelSpec,
        members: &[Tensors],
        device: &B::Device,
    ) -> Result<Self, Error> {
        if !spec.may_be_in_cohort() {
            let complaints = vec!["associative models do not train in cohorts".to_owned()];
            return Err(Cause::Misfit { complaints }.into());
        }
        for member in members {
            params::check_fit(spec, member)?;
        }
        Ok(Self::assemble(spec, Tensors::stack(members), device))
    }

    /// The same architecture, on the same device, with other numbers.
    ///
    /// # Errors
    ///
    /// As [`Self::from_params`].
    pub fn load(&self, tensors: &Tensors) -> Result<Self, Error> {
        let device = self.devices().into_iter().next().unwrap_or_default();
        Self::from_params(&self.spec(), tensors.clone(), &device)
    }

    /// The same model, of which only the parameters whose name `learns` have gradients.
    ///
    /// What has none costs nothing in the backward pass and is left alone by [`crate::optim`]. On a
    /// backend without gradients this changes nothing.
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_engine::{Ops, QueryRows, burn::tensor::Tensor, device::{CpuAutodiff, cpu}};
    /// use mnemoscope_model::{LstmSpec, Model, ModelSpec, hook::NoHooks, optim::read_grads};
    /// use mnemoscope_stats::stream::Stream;
    ///
    /// let spec = ModelSpec::Lstm(LstmSpec { n_layers: 1, d_model: 8, d_vocab: 5 });
    /// let model = Model::<CpuAutodiff>::init(&spec, &Stream::root(0), &cpu());
    /// let model = model.learn(|name| name.starts_with("unembed."));
    /// let tokens = Tensor::from_data([[0, 4, 1]], &cpu());
    /// let logits = model.logits(tokens, &QueryRows::new(3, vec![(0, 2)]), &mut NoHooks);
    /// let loss = CpuAutodiff::cross_entropy(logits, Tensor::from_data([4], &cpu()));
    /// let grads = read_grads(&model, &loss.backward());
    /// assert_eq!(grads.names().collect::<Vec<_>>(), ["unembed.bias", "unembed.weight"]);
    /// ```
    #[must_use]
    pub fn learn(self, learns: impl Fn(&str) -> bool) -> Self {
        struct Setter<F> {
            path: Path,
            learns: F,
        }
        impl<B: Backend, F: Fn(&str) -> bool> ModuleMapper<B> for Setter<F> {
            fn enter_module(&mut self, name: &str, container: &str) {
                self.path.enter(name, container);
            }

            fn exit_module(&mut self, _name: &str, container: &str) {
                self.path.exit(container);
            }

            fn map_float<const D: usize>(
                &mut self,
                param: Param<Tensor<B, D>>,
            ) -> Param<Tensor<B, D>> {
                param.set_require_grad((self.learns)(&self.path.name()))
            }
        }
        self.map(&mut Setter { path: Path::default(), learns })
    }

    /// The numbers by name, copied out of the backend.
    #[must_use]
    pub fn params(&self) -> Tensors {
        params::read(self)
    }

    /// What fixes the architecture.
    #[must_use]
    pub fn spec(&self) -> ModelSpec {
        match self {
            Self::Transformer(model) => ModelSpec::Transformer(model.spec().clone()),
            Self::Lstm(model) => ModelSpec::Lstm(model.spec().clone()),
            Self::Associative(model) => ModelSpec::Associative(model.spec().clone()),
        }
    }

    /// A model of five numbers, to stand where another one has been moved out of.
    ///
    /// An optimiser wants to own what it updates, so that it can work in place.
    pub(crate) fn placeholder() -> Self {
        let spec = ModelSpec::Lstm(LstmSpec { n_layers: 1, d_model: 1, d_vocab: 2 });
        Self::init(&spec, &Stream::root(0), &B::Device::default())
    }

    fn assemble(spec: &ModelSpec, tensors: Tensors, device: &B::Device) -> Self {
        let mut source = Source::new(tensors, device);
        match spec {
            ModelSpec::Transformer(spec) => {
                Self::Transformer(Transformer::from_source(&mut source, spec))
            }
            ModelSpec::Lstm(spec) => Self::Lstm(Lstm::from_source(&mut source, spec)),
            ModelSpec::Associative(spec) => {
                Self::Associative(Associative::from_source(&mut source, spec))
            }
        }
    }
}

impl<B: Ops> Model<B> {
    /// Logits at the asked places: row `i` answers `queries.place(i)`.
    ///
    /// The same path trains and evaluates. A row of logits depends on the tokens of its own
    /// example up to its own place and on nothing else, to the bit.
    ///
    /// # Shapes
    ///
    /// `tokens: [batch, pos]`, each below `d_vocab` -> `[n_queries, d_vocab]`
    ///
    /// # Panics
    ///
    /// If `queries` is empty, counts places differently or asks beyond the batch; if the sequence is
    /// longer than `n_ctx`; if a hook replaces a value by one of another shape.
    #[must_use]
    #[track_caller]
    pub fn logits(
        &self,
        tokens: Tensor<B, 2, Int>,
        queries: &QueryRows,
        hooks: &mut dyn Hooks<B>,
    ) -> Tensor<B, 2> {
        check_queries(tokens.dims(), queries);
        match self {
            Self::Transformer(model) => model.logits(tokens, queries, hooks),
            Self::Lstm(model) => model.logits(tokens, queries, hooks),
            Self::Associative(model) => model.logits(tokens, queries, hooks),
        }
    }

    /// [`logits`](Self::logits) as training sees them, with dropout, and the penalty on blunt attention
    /// if one is asked for: `[n_queries, d_vocab]` and `[1]`.
    ///
    /// With all rates at 0 and no penalty, the logits have the bits of the plain pass.
    ///
    /// # Panics
    ///
    /// As [`logits`](Self::logits); if the model is no transformer, or has no block in a chosen layer; if there are more or
    /// fewer streams than members.
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_engine::{QueryRows, burn::tensor::Tensor, device::{Cpu, cpu}};
    /// use mnemoscope_model::{Bluntness, DropoutRates, Model, ModelSpec, Regularisation, TransformerSpec};
    /// use mnemoscope_stats::stream::Stream;
    ///
    /// let spec = ModelSpec::Transformer(TransformerSpec::x_transformers(2, 8, 2));
    /// let model = Model::<Cpu>::init(&spec, &Stream::root(0), &cpu());
    /// let regularisation = Regularisation {
    ///     dropout: DropoutRates { embed: 0.5, ..DropoutRates::default() },
    ///     streams: &[Stream::root(0).derive("dropout")],
    ///     step: 1,
    ///     sharpen: Some((Bluntness::Entropy, &[0, 1])),
    ///     asked_rows: false,
    /// };
    /// let (tokens, queries) = (Tensor::from_data([[0, 4, 1]], &cpu()), QueryRows::all(1, 3));
    /// let (_, penalty) = model.regularised_logits(tokens, &queries, &regularisation);
    /// // Three rows of one, two and three keys: their entropies are at most 0, ln 2 and ln 3.
    /// let entropy = penalty.unwrap().into_scalar();
    /// assert!(0.0 < entropy && entropy < 6_f32.ln() / 3.0);
    /// ```
    #[must_use]
    #[track_caller]
    pub fn regularised_logits(
        &self,
        tokens: Tensor<B, 2, Int>,
        queries: &QueryRows,
        regularisation: &Regularisation<'_>,
    ) -> (Tensor<B, 2>, Option<Tensor<B, 1>>) {
        check_queries(tokens.dims(), queries);
        let Self::Transformer(model) = self else {
            panic!("dropout and sharpening are of transformers")
        };
        let n_streams = regularisation.streams.len();
        assert_eq!(n_streams, model.n_members(), "dropout has a stream for each member");
        let (_, layers) = regularisation.sharpen.unwrap_or((Bluntness::Entropy, &[]));
        let n_layers = model.spec().n_layers;
        assert!(layers.iter().all(|&layer| layer < n_layers), "no block in one of {layers:?}");
        model.pass(tokens, queries, &mut NoHooks, Some(regularisation))
    }
}

impl ModelSpec {
    /// Whether models of this spec can be computed side by side: see [`Model::cohort`].
    #[must_use]
    pub fn may_be_in_cohort(&self) -> bool {
        match self {
            Self::Transformer(_) | Self::Lstm(_) => true,
            Self::Associative(_) => false,
        }
    }
}

/// Stops where queries do not belong to tokens `[batch, pos]`.
#[track_caller]
fn check_queries([batch, n_pos]: [usize; 2], queries: &QueryRows) {
    assert!(!queries.is_empty(), "the model is asked nothing");
    assert_eq!(queries.seq_len(), n_pos, "the queries count another number of places");
    let (example, _) = queries.place(queries.len() - 1);
    assert!((example as usize) < batch, "example {example} is asked in a batch of {batch}");
}
