//! What training adds to a pass: dropout, and a penalty on attention.

use super::*;

/// Logits and penalty of training, as bits.
fn regularised_bits(spec: &TransformerSpec, regularisation: &Regularisation<'_>) -> Vec<u32> {
    let model = init::<Cpu>(&ModelSpec::Transformer(spec.clone()));
    let tokens = tensor(&examples(0..3), &cpu());
    let queries = QueryRows::new(N_POS, vec![(0, 3), (1, 0), (1, 11), (2, 7)]);
    let (logits, penalty) = model.regularised_logits(tokens, &queries, regularisation);
    let mut all = logits.into_data().into_vec::<f32>().unwrap();
    all.extend(penalty.map(|penalty| penalty.into_scalar()));
    all.into_iter().map(f32::to_bits).collect()
}

#[test]
fn training_without_dropout_and_penalty_has_the_bits_of_the_plain_pass() {
    let stream = Stream::root(3);
    for spec in interventions() {
        let model = init::<Cpu>(&ModelSpec::Transformer(spec.clone()));
        let queries = QueryRows::new(N_POS, vec![(0, 3), (1, 0), (1, 11), (2, 7)]);
        let plain = bits(&model, &examples(0..3), &queries, &mut NoHooks).concat();
        let dropout = DropoutRates::default();
        let nothing = Regularisation {
            dropout,
            streams: std::slice::from_ref(&stream),
            step: 1,
            sharpen: None,
            asked_rows: false,
        };
        assert_eq!(regularised_bits(&spec, &nothing), plain);
        // A penalty looks, and changes no logit.
        let looks = Regularisation { sharpen: Some((Bluntness::NegL2, &[0, 1])), ..nothing };
        assert_eq!(regularised_bits(&spec, &looks)[..plain.len()], plain);
    }
}

#[test]
fn each_kind_of_dropout_is_felt_and_is_a_function_of_seed_and_step() {
    let [stream, other] = [Stream::root(3), Stream::root(4)];
    let off = DropoutRates::default();
    let kinds = [
        DropoutRates { attn: 0.5, ..off },
        DropoutRates { mlp: 0.5, ..off },
        DropoutRates { resid: 0.5, ..off },
        DropoutRates { embed: 0.5, ..off },
    ];
    let spec = &interventions()[1];
    let run = |dropout, stream: &Stream, step| {
        let streams = std::slice::from_ref(stream);
        regularised_bits(
            spec,
            &Regularisation { dropout, streams, step, sharpen: None, asked_rows: false },
        )
    };
    let mut seen = vec![run(off, &stream, 1)];
    for dropout in kinds {
        let here = run(dropout, &stream, 1);
        assert_eq!(here, run(dropout, &stream, 1));
        seen.extend([here, run(dropout, &stream, 2), run(dropout, &other, 1)]);
    }
    for (idx, bits) in seen.iter().enumerate() {
        assert!(!seen[..idx].contains(bits), "the logits of case {idx} came before");
    }
}

/// Of the last layer the asked rows may be all that is measured: those that hooks read there.
#[test]
fn the_penalty_on_asked_rows_is_the_mean_over_their_patterns() {
    let stream = Stream::root(3);
    let queries = QueryRows::new(N_POS, vec![(0, 4), (1, 0), (2, 3), (2, 11)]);
    for spec in interventions() {
        let drawn = ModelSpec::Transformer(spec.clone());
        let layer = spec.n_layers - 1;
        let pattern = value(&drawn, &format!("blocks.{layer}.attn.hook_pattern"), &queries);
        assert_eq!(pattern.shape, [4, spec.n_heads, N_POS]);
        let largest = |row: &[f32]| f64::from(row.iter().copied().fold(0.0, f32::max));
        let rows = pattern.data.chunks_exact(N_POS);
        let expected = -rows.map(largest).sum::<f64>() / (4 * spec.n_heads) as f64;
        let regularisation = Regularisation {
            dropout: DropoutRates::default(),
            streams: std::slice::from_ref(&stream),
            step: 1,
            sharpen: Some((Bluntness::NegLinf, &[layer])),
            asked_rows: true,
        };
        let (model, tokens) = (init::<Cpu>(&drawn), tensor(&examples(0..3), &cpu()));
        let (_, penalty) = model.regularised_logits(tokens, &queries, &regularisation);
        let got = f64::from(penalty.unwrap().into_scalar());
        assert!((got / expected - 1.0).abs() < 1e-5, "{:?}: {got}, not {expected}", spec.relative);
    }
}

#[test]
fn the_penalty_is_the_mean_over_the_patterns_that_hooks_read() {
    let stream = Stream::root(3);
    let (tokens, all) = (examples(0..3), QueryRows::all(3, N_POS));
    for spec in interventions() {
        let spec_of_model = ModelSpec::Transformer(spec.clone());
        let model = init::<Cpu>(&spec_of_model);
        for layer in 0..spec.n_layers {
            let point = format!("blocks.{layer}.attn.hook_pattern");
            let pattern = value(&spec_of_model, &point, &all);
            let rows = pattern.data.chunks_exact(N_POS).map(|row| {
                let row: Vec<f64> = row.iter().map(|&p| f64::from(p)).collect();
                let entropy: f64 = row.iter().filter(|&&p| p > 0.0).map(|p| -p * p.ln()).sum();
                let norm = row.iter().map(|p| p * p).sum::<f64>().sqrt();
                [entropy, -norm, -row.iter().copied().fold(0.0, f64::max)]
            });
            let rows: Vec<[f64; 3]> = rows.collect();
            let forms = [Bluntness::Entropy, Bluntness::NegL2, Bluntness::NegLinf];
            for (idx, form) in forms.into_iter().enumerate() {
                let expected = rows.iter().map(|row| row[idx]).sum::<f64>() / rows.len() as f64;
                let layers = [layer];
                let regularisation = Regularisation {
                    dropout: DropoutRates::default(),
                    streams: std::slice::from_ref(&stream),
                    step: 1,
                    sharpen: Some((form, &layers)),
                    asked_rows: false,
                };
                // Asked at one place, the penalty is still over all of them.
                let one = QueryRows::new(N_POS, vec![(1, 4)]);
                let tokens = tensor(&tokens, &cpu());
                let (_, penalty) = model.regularised_logits(tokens, &one, &regularisation);
                let got = f64::from(penalty.unwrap().into_scalar());
                assert!((got / expected - 1.0).abs() < 1e-5, "{form:?}: {got}, not {expected}");
            }
        }
    }
}
