//! The first values of parameters, each drawn from an address of its own.

use mnemoscope_stats::stream::Stream;

use crate::layout::{Law, layout};
use crate::params::{Array, Tensors};
use crate::spec::ModelSpec;

/// Draws every parameter of the layout: the one called `name` from `stream.derive(name).at(0)`.
#[track_caller]
pub(crate) fn draw(spec: &ModelSpec, stream: &Stream) -> Tensors {
    let mut tensors = Tensors::default();
    for slot in layout(spec) {
        let mut draws = stream.derive(&slot.name).at(0);
        let n_values: usize = slot.shape.iter().product();
        let data: Vec<f32> = match slot.law {
            Law::Constant(value) => vec![value as f32; n_values],
            Law::Uniform(bound) => {
                (0..n_values).map(|_| (bound * (2.0 * draws.uniform() - 1.0)) as f32).collect()
            }
            Law::Normal(sd) => (0..n_values).map(|_| (sd * draws.normal()) as f32).collect(),
        };
        tensors.insert(slot.name, Array { shape: slot.shape, data });
    }
    tensors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{AssociativeInit, AssociativeSpec, LstmSpec, Mlp, TransformerSpec};

    /// Mean and standard deviation of a parameter as drawn.
    fn moments(spec: &ModelSpec, name: &str) -> (f64, f64, f64) {
        let tensors = draw(spec, &Stream::root(7).derive("model"));
        let data = &tensors.get(name).unwrap().data;
        let n = data.len() as f64;
        let mean = data.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let variance = data.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
        let largest = data.iter().fold(0.0, |most: f64, &x| most.max(f64::from(x).abs()));
        (mean, variance.sqrt(), largest)
    }

    /// Every law within six standard errors; the stream is fixed, so this passes or fails for good.
    #[test]
    fn each_parameter_follows_the_law_of_the_table() {
        let x = TransformerSpec { n_ctx: 64, ..TransformerSpec::x_transformers(2, 64, 2) };
        let gpt2 = TransformerSpec { n_ctx: 64, ..TransformerSpec::gpt2(2, 64, 2) };
        let theory = AssociativeSpec { init: AssociativeInit::Theory, ..AssociativeSpec::birth() };
        let birth = TransformerSpec::birth_full;
        let linear = TransformerSpec { mlp: Mlp::Linear, d_mlp: 0, mlp_bias: true, ..birth() };
        let uniform = |d_in: f64| 1.0 / d_in.sqrt() / 3.0_f64.sqrt();
        let cases = [
            (ModelSpec::Transformer(x.clone()), "pos.weight", 1.0),
            (ModelSpec::Transformer(x.clone()), "blocks.1.attn.qkv.weight", uniform(64.0)),
            (ModelSpec::Transformer(x.clone()), "blocks.1.mlp.down.weight", uniform(256.0)),
            (ModelSpec::Transformer(x.clone()), "blocks.0.mlp.down.bias", uniform(256.0)),
            (ModelSpec::Transformer(x), "embed.weight", (2.0_f64 / 64.0).sqrt()),
            (ModelSpec::Transformer(gpt2.clone()), "pos.weight", 0.02),
            (ModelSpec::Transformer(gpt2.clone()), "blocks.0.attn.out.weight", 0.01),
            (ModelSpec::Transformer(gpt2), "blocks.0.mlp.up.weight", 0.02),
            (ModelSpec::Associative(AssociativeSpec::birth()), "pos.weight", 1.0),
            (
                ModelSpec::Associative(AssociativeSpec::birth()),
                "blocks.1.mlp.weight",
                uniform(128.0),
            ),
            (ModelSpec::Associative(theory), "blocks.0.attn.out.weight", 128.0_f64.sqrt().recip()),
            (ModelSpec::Transformer(birth()), "embed.weight", 1.0),
            (ModelSpec::Transformer(birth()), "pos.weight", 1.0),
            (ModelSpec::Transformer(birth()), "blocks.1.attn.qkv.weight", uniform(128.0)),
            (ModelSpec::Transformer(birth()), "blocks.1.mlp.down.weight", uniform(512.0)),
            (ModelSpec::Transformer(linear), "blocks.0.mlp.down.bias", uniform(128.0)),
            (ModelSpec::Lstm(LstmSpec::paper()), "embed.weight", 1.0),
            (ModelSpec::Lstm(LstmSpec::paper()), "layers.0.w_hh", uniform(128.0)),
        ];
        for (spec, name, expected) in cases {
            let slot = layout(&spec).into_iter().find(|slot| slot.name == name).unwrap();
            let n = slot.shape.iter().product::<usize>() as f64;
            let (mean, sd, largest) = moments(&spec, name);
            assert!(mean.abs() < 6.0 * expected / n.sqrt(), "{name}: mean {mean}");
            assert!((sd / expected - 1.0).abs() < 6.0 / (2.0 * n).sqrt(), "{name}: sd {sd}");
            if let Law::Uniform(bound) = slot.law {
                assert!(largest <= bound && largest > 0.9 * bound, "{name}: largest {largest}");
            }
        }
    }

    #[test]
    fn a_parameter_depends_on_its_own_address_alone() {
        let stream = Stream::root(3).derive("model");
        let small =
            draw(&ModelSpec::Transformer(TransformerSpec::x_transformers(1, 8, 2)), &stream);
        let deep = draw(&ModelSpec::Transformer(TransformerSpec::x_transformers(3, 8, 2)), &stream);
        for name in ["embed.weight", "blocks.0.mlp.up.weight", "unembed.bias"] {
            assert_eq!(small.get(name), deep.get(name));
        }
        assert_ne!(deep.get("blocks.0.mlp.up.weight"), deep.get("blocks.1.mlp.up.weight"));
    }
}
