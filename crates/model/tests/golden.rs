//! Agreement with PyTorch: logits, loss, every gradient, ten steps of AdamW and ten of SGD.
//!
//! The files and the script that makes them are in `golden/`. PyTorch computed them in double
//! precision from the same single-precision parameters, so the distance is our own rounding. The
//! distance of two arrays is relative in the Euclidean norm, `|got - expected| / |expected|`, and
//! must stay below 1e-5 for every single array.
//!
//! One thing cannot be compared. A bias on the keys adds the same to all scores of a query, so softmax
//! takes it out again: its gradient is zero in exact arithmetic, and what a computer finds is noise.
//! AdamW divides noise by its own size, so after ten steps these numbers have wandered by some
//! learning rates in PyTorch as here. They are held to that bound, and, because they change no
//! logit, the losses are still held to 1e-5. SGD leaves noise as small as it is.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::collections::BTreeMap;

use mnemoscope_engine::burn::tensor::{Int, Tensor, TensorData};
use mnemoscope_engine::device::{CpuAutodiff, cpu};
use mnemoscope_engine::{Ops, QueryRows};
use mnemoscope_model::hook::NoHooks;
use mnemoscope_model::optim::{AdamW, OptimState, Rule, Sgd, read_grads};
use mnemoscope_model::params::{Tensors, from_safetensors};
use mnemoscope_model::{Bluntness, DropoutRates, Model, ModelSpec, Regularisation};
use mnemoscope_stats::stream::Stream;

const TOLERANCE: f64 = 1e-5;

/// One golden file, opened.
struct Golden {
    spec: ModelSpec,
    metadata: BTreeMap<String, String>,
    tensors: Tensors,
}

#[derive(serde::Deserialize)]
struct AdamWSteps {
    beta1: f64,
    beta2: f64,
    epsilon: f64,
    weight_decay: f64,
    learning_rates: Vec<f64>,
}

impl AdamWSteps {
    fn rules(&self) -> Vec<Rule> {
        let Self { beta1, beta2, epsilon, weight_decay, .. } = *self;
        let rule = |&lr| Rule::AdamW(AdamW { lr, beta1, beta2, epsilon, weight_decay });
        self.learning_rates.iter().map(rule).collect()
    }
}

#[derive(serde::Deserialize)]
struct SgdSteps {
    momentum: f64,
    dampening: f64,
    nesterov: bool,
    weight_decay: f64,
    learning_rates: Vec<f64>,
}

impl SgdSteps {
    fn rules(&self) -> Vec<Rule> {
        let Self { momentum, dampening, nesterov, weight_decay, .. } = *self;
        let rule = |&lr| Rule::Sgd(Sgd { lr, momentum, dampening, nesterov, weight_decay });
        self.learning_rates.iter().map(rule).collect()
    }
}

#[derive(serde::Deserialize)]
struct Sharpen {
    form: Bluntness,
    weight: f64,
    layers: Vec<usize>,
    #[serde(default)]
    asked_rows: bool,
}

impl Golden {
    fn open(bytes: &[u8]) -> Self {
        let (tensors, metadata) = from_safetensors(bytes).unwrap();
        let spec = serde_json::from_str(&metadata["spec"]).unwrap();
        Self { spec, metadata, tensors }
    }

    /// A tensor of whole numbers; the file holds every number in single precision.
    fn whole(&self, name: &str) -> Vec<i64> {
        self.tensors.get(name).unwrap().data.iter().map(|&number| number as i64).collect()
    }

    fn tokens(&self) -> Tensor<CpuAutodiff, 2, Int> {
        let shape = self.tensors.get("tokens").unwrap().shape.clone();
        Tensor::from_data(TensorData::new(self.whole("tokens"), shape), &cpu())
    }

    fn queries(&self) -> QueryRows {
        let n_pos = self.tensors.get("tokens").unwrap().shape[1];
        let places = self.whole("queries");
        let places = places.chunks_exact(2).map(|place| (place[0] as u32, place[1] as u32));
        QueryRows::new(n_pos, places.collect())
    }

    /// Logits and what is minimised: the loss, and the penalty if the file has one.
    fn answer(
        &self,
        model: &Model<CpuAutodiff>,
    ) -> (Tensor<CpuAutodiff, 2>, Tensor<CpuAutodiff, 1>) {
        let (tokens, queries) = (self.tokens(), self.queries());
        let Some(sharpen) = self.metadata.get("sharpen") else {
            let logits = model.logits(tokens, &queries, &mut NoHooks);
            return (logits.clone(), self.loss(logits));
        };
        let Sharpen { form, weight, layers, asked_rows } = serde_json::from_str(sharpen).unwrap();
        let regularisation = Regularisation {
            dropout: DropoutRates::default(),
            streams: &[Stream::root(0)],
            step: 1,
            sharpen: Some((form, &layers)),
            asked_rows,
        };
        let (logits, penalty) = model.regularised_logits(tokens, &queries, &regularisation);
        (logits.clone(), self.loss(logits) + penalty.unwrap().mul_scalar(weight))
    }

    fn loss(&self, logits: Tensor<CpuAutodiff, 2>) -> Tensor<CpuAutodiff, 1> {
        let targets = self.whole("targets");
        let n_targets = targets.len();
        let targets = Tensor::from_data(TensorData::new(targets, [n_targets]), &cpu());
        CpuAutodiff::cross_entropy(logits, targets)
    }

    fn model(&self) -> Model<CpuAutodiff> {
        Model::from_params(&self.spec, self.tensors.strip_prefix("before."), &cpu()).unwrap()
    }
}

/// `|got - expected| / |expected|` in the Euclidean norm.
fn distance(got: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let norm = |squares: &mut dyn Iterator<Item = f64>| squares.sum::<f64>().sqrt();
    let square = |x: f64| x * x;
    let apart = norm(
        &mut std::iter::zip(got, expected).map(|(&g, &e)| square(f64::from(g) - f64::from(e))),
    );
    apart / norm(&mut expected.iter().map(|&e| square(f64::from(e))))
}

/// Compares two sets of arrays name by name; `wander` is what the biases of keys may differ by.
#[track_caller]
fn check_all(what: &str, got: &Tensors, expected: &Tensors, wander: f32) {
    assert_eq!(got.names().collect::<Vec<_>>(), expected.names().collect::<Vec<_>>());
    for (name, array) in got.iter() {
        let expected = expected.get(name).unwrap();
        assert_eq!(array.shape, expected.shape, "{what} {name}");
        let (mut got, mut expected) = (array.data.clone(), expected.data.clone());
        let parts = [("attn.qkv.bias", 3), ("attn.qk.bias", 2)];
        if let Some((_, n_parts)) = parts.iter().find(|(ending, _)| name.ends_with(ending)) {
            let keys = got.len() / n_parts..2 * got.len() / n_parts;
            let got_keys: Vec<f32> = got.drain(keys.clone()).collect();
            for (got, expected) in std::iter::zip(got_keys, expected.drain(keys)) {
                assert!((got - expected).abs() <= wander, "{what} `{name}`: {got} {expected}");
            }
        }
        let apart = distance(&got, &expected);
        assert!(apart < TOLERANCE, "{what} `{name}` is {apart:.2e} away");
    }
}

/// Compares a model, and what ten steps of AdamW and of SGD make of it.
fn check(bytes: &[u8], sgd_bytes: &[u8]) {
    let golden = Golden::open(bytes);
    let model = golden.model();
    let (logits, loss) = golden.answer(&model);
    let expected = golden.tensors.get("logits").unwrap();
    let got = logits.into_data().into_vec::<f32>().unwrap();
    assert!(distance(&got, &expected.data) < TOLERANCE, "logits");
    let grads = loss.backward();
    let grads = read_grads(&model, &grads);
    check_all("gradient of", &grads, &golden.tensors.strip_prefix("grad."), 1e-6);

    let adamw: AdamWSteps = serde_json::from_str(&golden.metadata["adamw"]).unwrap();
    let wander = adamw.learning_rates.iter().sum::<f64>() as f32;
    check_steps(&golden, &adamw.rules(), &golden.tensors, wander);
    let (after_sgd, metadata) = from_safetensors(sgd_bytes).unwrap();
    let sgd: SgdSteps = serde_json::from_str(&metadata["sgd"]).unwrap();
    check_steps(&golden, &sgd.rules(), &after_sgd, 1e-6);
}

/// Compares the losses and the parameters after ten steps with those of a file.
fn check_steps(golden: &Golden, rules: &[Rule], expected: &Tensors, wander: f32) {
    assert_eq!(rules.len(), 10);
    let mut model = golden.model();
    let mut state = OptimState::new(&rules[0]);
    let mut losses = Vec::new();
    for rule in rules {
        let (_, loss) = golden.answer(&model);
        losses.push(loss.clone().into_scalar());
        state.step(&mut model, loss.backward(), rule, None).unwrap();
    }
    losses.push(golden.answer(&model).1.into_scalar());
    let expected_losses = &expected.get("losses").unwrap().data;
    for (step, (got, expected)) in std::iter::zip(&losses, expected_losses).enumerate() {
        let apart = distance(&[*got], &[*expected]);
        let what = &rules[0];
        assert!(apart < TOLERANCE, "loss after {step} steps: got {got}, not {expected}; {what:?}");
    }
    check_all("after ten steps", &model.params(), &expected.strip_prefix("after."), wander);
}

#[test]
fn the_x_transformers_variant_agrees_with_pytorch() {
    check(
        include_bytes!("../golden/x_transformers.safetensors"),
        include_bytes!("../golden/x_transformers_sgd.safetensors"),
    );
}

#[test]
fn the_gpt2_variant_agrees_with_pytorch() {
    check(
        include_bytes!("../golden/gpt2.safetensors"),
        include_bytes!("../golden/gpt2_sgd.safetensors"),
    );
}

#[test]
fn one_block_without_positions_agrees_with_pytorch() {
    check(
        include_bytes!("../golden/one_layer.safetensors"),
        include_bytes!("../golden/one_layer_sgd.safetensors"),
    );
}

/// The block as published: the MLP reads the block's input.
#[test]
fn the_full_model_of_birth_of_a_transformer_agrees_with_pytorch() {
    check(
        include_bytes!("../golden/birth_full.safetensors"),
        include_bytes!("../golden/birth_full_sgd.safetensors"),
    );
}

/// Norms after the sums, sinusoidal positions, and no MLP in the first block.
#[test]
fn post_norm_blocks_with_sinusoidal_positions_agree_with_pytorch() {
    check(
        include_bytes!("../golden/birth_post.safetensors"),
        include_bytes!("../golden/birth_post_sgd.safetensors"),
    );
}

#[test]
fn blocks_without_norms_and_with_linear_mlps_agree_with_pytorch() {
    check(
        include_bytes!("../golden/birth_bare.safetensors"),
        include_bytes!("../golden/birth_bare_sgd.safetensors"),
    );
}

#[test]
fn rotary_positions_agree_with_pytorch() {
    check(
        include_bytes!("../golden/rotary.safetensors"),
        include_bytes!("../golden/rotary_sgd.safetensors"),
    );
}

#[test]
fn the_relative_positions_of_t5_agree_with_pytorch() {
    check(
        include_bytes!("../golden/t5.safetensors"),
        include_bytes!("../golden/t5_sgd.safetensors"),
    );
}

/// Three heads, which are no power of two.
#[test]
fn alibi_beside_learned_positions_agrees_with_pytorch() {
    check(
        include_bytes!("../golden/alibi.safetensors"),
        include_bytes!("../golden/alibi_sgd.safetensors"),
    );
}

#[test]
fn a_geglu_mlp_agrees_with_pytorch() {
    check(
        include_bytes!("../golden/geglu.safetensors"),
        include_bytes!("../golden/geglu_sgd.safetensors"),
    );
}

#[test]
fn a_swiglu_mlp_and_sinusoids_of_learned_scale_agree_with_pytorch() {
    check(
        include_bytes!("../golden/swiglu.safetensors"),
        include_bytes!("../golden/swiglu_sgd.safetensors"),
    );
}

#[test]
fn a_temperature_that_divides_products_and_bias_agrees_with_pytorch() {
    check(
        include_bytes!("../golden/temperature.safetensors"),
        include_bytes!("../golden/temperature_sgd.safetensors"),
    );
}

#[test]
fn the_penalty_on_entropy_agrees_with_pytorch() {
    check(
        include_bytes!("../golden/sharpen_entropy.safetensors"),
        include_bytes!("../golden/sharpen_entropy_sgd.safetensors"),
    );
}

#[test]
fn the_penalty_on_the_2_norm_of_one_layer_agrees_with_pytorch() {
    check(
        include_bytes!("../golden/sharpen_neg_l2.safetensors"),
        include_bytes!("../golden/sharpen_neg_l2_sgd.safetensors"),
    );
}

/// Beside rotary positions, learned ones, a temperature and a gate.
#[test]
fn the_penalty_on_the_largest_entry_agrees_with_pytorch() {
    check(
        include_bytes!("../golden/sharpen_neg_linf.safetensors"),
        include_bytes!("../golden/sharpen_neg_linf_sgd.safetensors"),
    );
}

#[test]
fn a_penalty_on_the_asked_rows_of_the_last_layer_agrees_with_pytorch() {
    check(
        include_bytes!("../golden/sharpen_asked.safetensors"),
        include_bytes!("../golden/sharpen_asked_sgd.safetensors"),
    );
}

#[test]
fn a_stack_of_two_lstm_layers_agrees_with_pytorch() {
    check(
        include_bytes!("../golden/lstm.safetensors"),
        include_bytes!("../golden/lstm_sgd.safetensors"),
    );
}

#[test]
fn the_simplified_model_agrees_with_pytorch() {
    check(
        include_bytes!("../golden/associative.safetensors"),
        include_bytes!("../golden/associative_sgd.safetensors"),
    );
}

#[test]
fn the_simplified_model_with_its_other_options_agrees_with_pytorch() {
    check(
        include_bytes!("../golden/associative_relu.safetensors"),
        include_bytes!("../golden/associative_relu_sgd.safetensors"),
    );
}

#[test]
fn memories_in_two_factors_agree_with_pytorch() {
    check(
        include_bytes!("../golden/associative_factored.safetensors"),
        include_bytes!("../golden/associative_factored_sgd.safetensors"),
    );
}

#[test]
fn normalised_memories_and_thresholds_agree_with_pytorch() {
    check(
        include_bytes!("../golden/associative_normalised.safetensors"),
        include_bytes!("../golden/associative_normalised_sgd.safetensors"),
    );
}

#[test]
fn values_of_their_own_or_none_agree_with_pytorch() {
    check(
        include_bytes!("../golden/own_v.safetensors"),
        include_bytes!("../golden/own_v_sgd.safetensors"),
    );
}

#[test]
fn a_block_that_only_moves_what_it_reads_agrees_with_pytorch() {
    check(
        include_bytes!("../golden/identity.safetensors"),
        include_bytes!("../golden/identity_sgd.safetensors"),
    );
}

#[test]
fn linear_positions_agree_with_pytorch() {
    check(
        include_bytes!("../golden/linear_positions.safetensors"),
        include_bytes!("../golden/linear_positions_sgd.safetensors"),
    );
}

#[test]
fn the_distance_would_notice_one_wrong_number_in_a_thousand() {
    let expected: Vec<f32> = (1..=1000).map(|k| (k as f32).sin()).collect();
    let mut got = expected.clone();
    got[500] *= 1.001;
    assert!(distance(&got, &expected) > TOLERANCE);
    assert!(distance(&expected, &expected) < f64::MIN_POSITIVE);
}
