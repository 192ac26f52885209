//! Models that stay open: the answers of a replay at every place, edited, and earlier in training.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;

use mnemoscope_lab::ErrorKind;
use mnemoscope_lab::clock::StoppedClock;
use mnemoscope_lab::engine::device::Device;
use mnemoscope_lab::eval::Glitch;
use mnemoscope_lab::event::NoWatcher;
use mnemoscope_lab::opened::Opened;
use mnemoscope_lab::plan::{resolve, resolve_stored};
use mnemoscope_lab::replay::replay;
use mnemoscope_lab::run::{Labels, RunOptions, run_plan};
use mnemoscope_lab::store::{RunReader, Store};
use mnemoscope_lab::task::oracle;
use serde_json::json;

const FLIP_FLOP: &str = "name = 'flipflop'\nseq_len = 24\np_ignore = 0.5";
const AUTOMATON: &str = "name = 'automaton'\nseq_len = 24";
const BIGRAM: &str = "name = 'bigram'\nseq_len = 24\nn_triggers = 3";
const TRANSFORMER: &str = "name = 'transformer'\nn_layers = 2\nd_model = 16\nn_heads = 2";
const LSTM: &str = "name = 'lstm'\nd_model = 8";

/// A run of twelve steps that keeps what it had after 4, 8 and 12, and its first glitch.
fn sealed(task: &str, model: &str, folder: &Path) -> (RunReader, Glitch) {
    let spec = format!(
        "[task]\n{task}\n[model]\n{model}\n[train]\nn_steps = 12\nbatch_size = 4\nwarmup_steps = 2\nlr = 0.01\n\
         [eval]\nmax_glitches = 3\nn_resamples = 50\n[eval.val]\nn_examples = 30\ncurve_examples = 0\n"
    );
    let plan = resolve(&spec, None, &[], None).unwrap().arms.remove(0).plans.remove(0);
    let options = RunOptions {
        n_threads: 2,
        device: Device::Cpu,
        checkpoint_every: 4,
        checkpoints_kept: 5,
        machine: json!({"name": "test"}),
    };
    let (store, clock) = (Store::open(folder).unwrap(), StoppedClock { unix_secs: 1_700_000_000 });
    run_plan(&plan, &Labels::default(), &store, &options, &clock, &mut NoWatcher).unwrap();
    let run = store.find(&plan.id()).unwrap();
    let name = run.names("glitches").unwrap().remove(0);
    let glitch = serde_json::from_value(run.json(&name).unwrap()).unwrap();
    (run, glitch)
}

fn open(run: &RunReader, step: Option<u64>) -> Opened {
    Opened::open(run, step, 2, Device::Cpu).unwrap()
}

#[test]
fn every_language_and_model_is_answered_with_the_bits_of_its_replay() {
    for (task, model, n_patterns) in [
        (FLIP_FLOP, TRANSFORMER, 4),
        (FLIP_FLOP, LSTM, 0),
        (AUTOMATON, TRANSFORMER, 4),
        (BIGRAM, "preset = 'birth'\nd_model = 16", 2),
        (BIGRAM, TRANSFORMER, 4),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (run, glitch) = sealed(task, model, folder.path());
        let opened = open(&run, None);
        assert_eq!((opened.step(), opened.blake3()), (12, glitch.checkpoint_blake3.as_str()));
        let seen = opened.see(&glitch, &[]).unwrap();
        let d_vocab = seen.task.d_vocab() as usize;
        let query = glitch.query_pos as usize;
        assert_eq!(seen.logits.len(), seen.n_fed * d_vocab);
        assert_eq!(seen.logits[query * d_vocab..][..d_vocab], glitch.logits, "{task} {model}");
        assert_eq!(seen.tokens, glitch.tokens);
        let target =
            seen.targets.iter().find(|target| target.query_pos == glitch.query_pos).unwrap();
        assert_eq!((target.answer, target.write_pos), (glitch.expected, glitch.write_pos));
        // Where the replay looked, and the same at every other place.
        assert_eq!(seen.patterns.len(), n_patterns, "{task} {model}");
        for head in replay(&run, glitch.clone(), Device::Cpu).unwrap().attention {
            let same = seen
                .patterns
                .iter()
                .find(|(layer, it, _)| (*layer, *it) == (head.layer, head.head));
            assert_eq!(same.unwrap().2[query * seen.n_fed..][..=query], head.weights);
        }
    }
}

#[test]
fn an_edit_changes_what_is_right_and_nothing_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let (run, glitch) = sealed(FLIP_FLOP, TRANSFORMER, folder.path());
    let (opened, plain) = (open(&run, None), open(&run, None).see(&glitch, &[]).unwrap());
    // The other symbol is written.
    let symbol = glitch.write_pos as usize + 1;
    let other = 7 - u32::from(glitch.tokens[symbol]);
    let edited = opened.see(&glitch, &[(symbol, other)]).unwrap();
    let answers = |tokens: &[u16]| -> Vec<(u32, u16)> {
        let found = oracle::answers(tokens).into_iter();
        found.filter_map(|(pos, answer)| Some((u32::try_from(pos).unwrap(), answer?))).collect()
    };
    let asked: Vec<(u32, u16)> =
        edited.targets.iter().map(|it| (it.query_pos, it.answer)).collect();
    assert_eq!(asked, answers(&edited.tokens));
    assert_ne!(edited.targets, plain.targets);
    assert_eq!(edited.logits[..symbol * 5], plain.logits[..symbol * 5]);
    assert_ne!(edited.logits[symbol * 5..], plain.logits[symbol * 5..]);
    // Nonsense is answered too, and only what is none of the language is refused.
    assert!(opened.see(&glitch, &[(0, 4), (1, 0)]).is_ok());
    for (edit, words) in [
        ((24, 0), "place 24 is edited, and the example has 24 tokens, counted from 0"),
        ((3, 5), "token 5 is put at place 3, and the language has 5, counted from 0"),
        ((3, 65_536 + 3), "token 65539 is put at place 3, and the language has 5, counted from 0"),
    ] {
        let refused = opened.see(&glitch, &[edit]).unwrap_err();
        assert_eq!((refused.kind(), refused.to_string().as_str()), (ErrorKind::Spec, words));
    }
}

#[test]
fn checkpoints_that_are_kept_can_be_asked_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let (run, glitch) = sealed(FLIP_FLOP, TRANSFORMER, folder.path());
    let steps: Vec<u64> = run.checkpoints().iter().map(|it| it.step).collect();
    assert_eq!(steps, [4, 8, 12]);
    let logits: Vec<Vec<f32>> = steps
        .iter()
        .map(|&step| open(&run, Some(step)).see(&glitch, &[]).unwrap().logits)
        .collect();
    assert!(logits[0] != logits[1] && logits[1] != logits[2]);
    let absent = Opened::open(&run, Some(5), 2, Device::Cpu).err().unwrap();
    assert_eq!(absent.kind(), ErrorKind::NotFound);
}

#[test]
fn a_spec_that_a_record_keeps_reads_no_file() {
    let spec = format!("[task]\n{BIGRAM}\ncorpus = '/etc/hostname'\n[model]\npreset = 'birth'\n");
    let refused = resolve_stored(&spec).unwrap_err().to_string();
    assert!(
        refused.contains("only \"tiny-shakespeare\" is known where a record alone is read"),
        "{refused}"
    );
    assert!(resolve_stored(&spec.replace("/etc/hostname", "tiny-shakespeare")).is_ok());
}
