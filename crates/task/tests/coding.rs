//! Codings of flip-flop against their oracles, on every short string.

#![expect(clippy::unwrap_used, reason = "in a test a failure is a panic")]

use mnemoscope_task::{Coding, FlipFlop, Mixture, Part, Target, Task, Token, oracle, reads, split};

fn spelt(coding: Coding, n_symbols: u32, seq_len: u32) -> Task {
    let language = FlipFlop::new(seq_len, 0.3, 0.3, 0.4, n_symbols).unwrap();
    Task::FlipFlop(FlipFlop { coding, ..language })
}

/// Every string of 2 to 4 instructions from {w, r, i} with one of 4 symbols each: 22,608 of them, also
/// such as no language has. Scored are the places that the oracle of the coding finds, and as many times
/// as the plain string is read after a write.
#[test]
fn both_codings_agree_with_their_oracles_on_every_short_string() {
    let stream = split::train_stream(0);
    let (mut plain, mut found) = (Vec::new(), Vec::new());
    for n_ops in 2..=4_u32 {
        let (bits, pairs) = (spelt(Coding::Bits, 4, 2 * n_ops), spelt(Coding::Pairs, 4, 2 * n_ops));
        for code in 0..12_u32.pow(n_ops) {
            let string: Vec<Token> = (0..n_ops)
                .flat_map(|op| {
                    let kind = code / 12_u32.pow(op) % 12;
                    [(kind / 4) as Token, (3 + kind % 4) as Token]
                })
                .collect();
            reads(&string, &mut plain);
            let answers = |targets: &[Target]| -> Vec<(usize, Token)> {
                targets.iter().map(|it| (it.query_pos as usize, it.answer)).collect()
            };
            let mut tokens = vec![0; 3 * n_ops as usize];
            Coding::Bits.spell(&string, 4, &mut tokens);
            bits.targets_into(&stream, 0, &tokens, &mut found);
            assert_eq!(answers(&found), oracle::bit_answers(&tokens, 2), "{string:?}");
            assert_eq!(found.len(), 2 * plain.len());
            assert!(found.iter().all(|it| tokens[it.write_pos as usize] == 0));
            let mut tokens = vec![0; n_ops as usize];
            Coding::Pairs.spell(&string, 4, &mut tokens);
            pairs.targets_into(&stream, 0, &tokens, &mut found);
            assert_eq!(answers(&found), oracle::pair_answers(&tokens, 4), "{string:?}");
            assert_eq!(found.len(), plain.len());
            assert!(found.iter().all(|it| tokens[it.write_pos as usize] < 4));
        }
    }
}

/// The string at an address is the same in every coding, and where it is scored the answer follows.
#[test]
fn a_coding_only_spells_the_string() {
    let stream = split::eval_stream(0, "val");
    let mut targets = Vec::new();
    for n_symbols in [2, 4, 256] {
        let plain = spelt(Coding::Tokens, n_symbols, 60);
        for coding in [Coding::Bits, Coding::Pairs] {
            let task = spelt(coding, n_symbols, 60);
            for index in 0..20 {
                let tokens = task.example(&stream, index);
                let mut expected = vec![0; task.seq_len()];
                coding.spell(&plain.example(&stream, index), n_symbols, &mut expected);
                assert_eq!(tokens, expected);
                assert!(tokens.iter().all(|&token| u32::from(token) < task.d_vocab()));
                task.targets_into(&stream, index, &tokens, &mut targets);
                assert!(!targets.is_empty());
                for target in &targets {
                    assert_eq!(tokens[target.query_pos as usize + 1], target.answer);
                    assert!(task.symbols().contains(&target.answer));
                }
                // One text for the string of bits; in pairs it is that of the plain string.
                if coding == Coding::Pairs {
                    assert_eq!(task.line(&tokens), plain.line(&plain.example(&stream, index)));
                }
            }
        }
    }
    let bits = spelt(Coding::Bits, 4, 8);
    let mut tokens = vec![0; 12];
    Coding::Bits.spell(&[0, 5, 2, 3, 2, 6, 1, 5], 4, &mut tokens);
    assert_eq!(bits.line(&tokens), "w10i00i11r10");
}

#[test]
fn a_plain_language_is_stored_as_it_always_was_and_another_says_so() {
    let json = |coding| serde_json::to_string(&spelt(coding, 4, 8)).unwrap();
    assert!(!json(Coding::Tokens).contains("coding"));
    assert!(json(Coding::Bits).contains("\"coding\":\"bits\""));
    let back: Task = serde_json::from_str(&json(Coding::Pairs)).unwrap();
    assert_eq!(back, spelt(Coding::Pairs, 4, 8));
}

#[test]
fn a_mixture_has_one_coding() {
    let part =
        |coding| Part { weight: 1.0, task: FlipFlop { coding, ..FlipFlop::paper(0.8).unwrap() } };
    let error = Mixture::new(vec![part(Coding::Bits), part(Coding::Pairs)]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "part 1: coding is another one than in part 0; all parts need the same"
    );
    let both = Task::Mixture(Mixture::new(vec![part(Coding::Pairs), part(Coding::Pairs)]).unwrap());
    assert_eq!((both.seq_len(), both.d_vocab()), (256, 6));
}
