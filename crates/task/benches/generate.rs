//! How fast examples are generated, on one core, into memory.
//!
//! ```text
//! generate/flipflop/[p_ignore, n_symbols]/reference   one instruction and one draw at a time
//! generate/flipflop/[p_ignore, n_symbols]/fast        bulk draws, thresholds, no branches
//! generate/mixture/fast                               a part drawn first
//! generate/bigram/[triggers]/reference                one token and one draw at a time
//! generate/bigram/[triggers]/fast                     bulk draws, alias tables, no branches
//! targets/bigram/[triggers]                           triggers drawn again, scored places found
//! reads/flipflop/[p_ignore, n_symbols]                scored places of examples in memory
//! text/flipflop/[p_ignore, n_symbols]                 the same examples as text
//! ```
//!
//! Every rung checks its answer first. `cargo bench` then times it; under `cargo test --benches`,
//! or with `--test`, the check is all.

#![expect(clippy::print_stdout, reason = "a benchmark reports on standard output")]
#![expect(clippy::unwrap_used, reason = "a wrong constant stops the benchmark")]

use std::hint::black_box;
use std::time::Duration;

use mnemoscope_task::bigram::{Outputs, Triggers, oracle as looking_back};
use mnemoscope_task::{Bigram, FlipFlop, Mixture, Part, Task, oracle, reads, split, text};

/// Examples in a batch: 1 MiB of tokens at 512 each, which stays in the second-level cache.
const N_EXAMPLES: usize = 1_024;

/// How long each rung is timed, several times over.
const TIMED: Duration = Duration::from_millis(300);

fn main() {
    let timing = std::env::args().any(|arg| arg == "--bench");
    if timing {
        println!("machine: {}", machine());
    }
    for (p_ignore, n_symbols) in [(0.8, 2), (0.98, 2), (0.1, 2), (0.8, 10), (0.8, 256)] {
        let p_write = (1.0 - p_ignore) / 2.0;
        let language = FlipFlop::new(512, p_write, p_write, p_ignore, n_symbols).unwrap();
        let label = format!("[{p_ignore}, {n_symbols}]");
        flipflop(&label, &language, timing);
        if n_symbols == 2 && p_write > 0.09 && p_write < 0.2 {
            beyond_generation(&label, &Task::FlipFlop(language), timing);
        }
    }
    let part = |p_ignore| Part { weight: 1.0, task: FlipFlop::paper(p_ignore).unwrap() };
    let mixture = Mixture::new([0.8, 0.98, 0.1].map(part).to_vec()).unwrap();
    let task = Task::Mixture(mixture);
    check_batch(&task);
    let stream = split::train_stream(0);
    let mut batch = Vec::new();
    rung("generate/mixture/fast", timing, |first_index| {
        task.batch_into(&stream, first_index, N_EXAMPLES, &mut batch);
        black_box(batch.len())
    });
    let paper = Bigram::paper(5);
    bigram("[5 random]", &paper, timing);
    bigram("[5 fixed]", &Bigram { triggers: Triggers::Fixed, ..paper.clone() }, timing);
    bigram("[5 random, bigram]", &Bigram { outputs: Outputs::Bigram, ..paper }, timing);
}

/// The bigram language: generator, reference, and what is scored.
fn bigram(label: &str, language: &Bigram, timing: bool) {
    let n_tokens = language.n_tokens();
    let task = Task::Bigram(language.clone());
    let stream = split::train_stream(0);
    let mut batch = vec![0; N_EXAMPLES * n_tokens];
    language.batch_into(&stream, 0, &mut batch);
    let mut targets = Vec::new();
    for (index, tokens) in (0..).zip(batch.chunks_exact(n_tokens)) {
        let mut expected = vec![0; n_tokens];
        language.generate_reference(&mut stream.at(index), &mut expected);
        assert_eq!(tokens, expected, "{label}, example {index}");
        let triggers = language.triggers_at(&mut stream.at(index));
        let pairs: Vec<_> = triggers.iter().map(|pair| (pair.token, pair.output)).collect();
        assert_eq!(looking_back::is_valid(tokens, &pairs, &language.corpus), Ok(()));
    }
    rung(&format!("generate/bigram/{label}/reference"), timing, |first_index| {
        for (index, tokens) in (first_index..).zip(batch.chunks_exact_mut(n_tokens)) {
            language.generate_reference(&mut stream.at(index), tokens);
        }
        black_box(&batch).len()
    });
    rung(&format!("generate/bigram/{label}/fast"), timing, |first_index| {
        language.batch_into(&stream, first_index, &mut batch);
        black_box(&batch).len()
    });
    rung(&format!("targets/bigram/{label}"), timing, |_| {
        for (index, tokens) in (0..).zip(batch.chunks_exact(n_tokens)) {
            task.targets_into(&stream, index, tokens, &mut targets);
            black_box(&targets);
        }
        batch.len()
    });
}

/// The generator and its reference.
fn flipflop(label: &str, language: &FlipFlop, timing: bool) {
    let task = Task::FlipFlop(language.clone());
    check_batch(&task);
    let stream = split::train_stream(0);
    let mut batch = vec![0; N_EXAMPLES * task.seq_len()];
    for index in 0..64 {
        let mut expected = vec![0; task.seq_len()];
        language.generate_reference(&mut stream.at(index), &mut expected);
        assert_eq!(task.example(&stream, index), expected, "{label}, example {index}");
    }
    rung(&format!("generate/flipflop/{label}/reference"), timing, |first_index| {
        for (index, tokens) in (first_index..).zip(batch.chunks_exact_mut(512)) {
            language.generate_reference(&mut stream.at(index), tokens);
        }
        black_box(&batch).len()
    });
    rung(&format!("generate/flipflop/{label}/fast"), timing, |first_index| {
        task.batch_into(&stream, first_index, N_EXAMPLES, &mut batch);
        black_box(&batch).len()
    });
}

/// What happens to generated examples: their scored places, and their text.
fn beyond_generation(label: &str, task: &Task, timing: bool) {
    let mut batch = Vec::new();
    task.batch_into(&split::train_stream(0), 0, N_EXAMPLES, &mut batch);
    let mut targets = Vec::new();
    rung(&format!("reads/flipflop/{label}"), timing, |_| {
        for tokens in batch.chunks_exact(512) {
            reads(tokens, &mut targets);
            black_box(&targets);
        }
        batch.len()
    });
    rung(&format!("text/flipflop/{label}"), timing, |_| {
        black_box(text::to_text(&batch));
        batch.len()
    });
}

/// Checks a batch against the oracle, and its scored places too.
fn check_batch(task: &Task) {
    let mut batch = Vec::new();
    let mut targets = Vec::new();
    task.batch_into(&split::train_stream(0), 0, N_EXAMPLES, &mut batch);
    for tokens in batch.chunks_exact(task.seq_len()) {
        assert_eq!(oracle::is_valid(tokens, task.n_symbols()), Ok(()));
        reads(tokens, &mut targets);
        let got = targets.iter().map(|read| (read.query_pos as usize, Some(read.answer)));
        assert!(got.eq(oracle::answers(tokens)), "{tokens:?}");
    }
}

/// Runs `work` on batch after batch and prints the best rate of five timings; just once if not
/// timing. `work` gets the index of the batch's first example and says how many tokens it made.
#[expect(clippy::disallowed_methods, reason = "a benchmark is what clocks are for")]
fn rung(name: &str, timing: bool, mut work: impl FnMut(u64) -> usize) {
    let mut first_index = 0;
    let mut next = || {
        let n_tokens = work(first_index);
        first_index += N_EXAMPLES as u64;
        n_tokens
    };
    assert!(next() > 0, "{name} made nothing");
    if !timing {
        println!("{name}: checked");
        return;
    }
    let mut rates = Vec::new();
    for _ in 0..5 {
        let start = std::time::Instant::now();
        let mut n_tokens = 0;
        while start.elapsed() < TIMED {
            n_tokens += next();
        }
        rates.push(n_tokens as f64 / start.elapsed().as_secs_f64() / 1e6);
    }
    rates.sort_by(f64::total_cmp);
    println!("{name}: {:.0} M tokens/s (of five: {:.0} to {:.0})", rates[4], rates[0], rates[4]);
}

/// The processor's name, where the system tells it.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or("unknown processor".to_owned(), |(_, name)| name.to_owned())
}
