//! Side by side with PyTorch: training steps, evaluation and drawing on this machine, in one run.
//!
//! ```text
//! cargo bench --bench compare -- --python .venv/bin/python
//! ```
//!
//! Every side is a process of its own that does a *block* of steps when it is asked to: ours, PyTorch
//! as it comes (`eager`) and PyTorch through `torch.compile`. They take turns, A B C A B C, so that
//! a machine that drifts drifts for all; what is quoted is the median over rounds of the ratio of
//! PyTorch's better form to ours, with its quartiles. Ours draws its data inside the clock, PyTorch
//! outside of it. Drawing is compared with two generators in NumPy, on one thread. `docs/compare.md` has the table, `bench/history.jsonl` every measurement.
//!
//! `bench/gpu` does the same on a GPU, in one command that builds nothing there.

mod compare;
mod gpu;
mod process;
mod side;
mod throughput;
mod worker;
mod workload;

use mnemoscope_lab::engine::memory;

/// As the command has it.
#[global_allocator]
static ALLOCATOR: memory::Allocator = memory::Allocator;

const HELP: &str = "\
Usage: compare [--python PYTHON] [--threads N] [--rounds N] [--only WORKLOAD] [--history FILE]
               [--device DEVICE] [--precision PRECISION] [--script FILE]
       compare throughput [--rounds N] [--only WORKLOAD]
       compare gpu [--python PYTHON] [--threads N] [--rounds N] [--only ROW] [--history FILE]
                   [--device DEVICE] [--precisions LIST] [--cohort N] [--minutes N]
                   [--table FILE] [--commit COMMIT] [--script FILE]

The second form compares two runs side by side, one thread each, with one of them alone. The third
compares training on a GPU, in each precision and with a cohort of seeds, and writes a table.

  --python PYTHON   an interpreter that has torch and numpy [python3]
  --threads N       threads of each side [as many as the machine has]
  --rounds N        turns of each side [9]
  --only WORKLOAD   one workload instead of all
  --history FILE    append every measurement to this file of JSON lines
  --device DEVICE   cpu, or cuda:N; drawing is of the CPU [cpu]
  --precision WHICH of PyTorch's products: f32, tf32, bf16 [that of ours on the device]
  --script FILE     bench/pytorch/worker.py, where this program was built elsewhere

Of `gpu` alone; its device is cuda:0 and it makes 5 rounds if nothing else is said:

  --only ROW        fflm-base, cohort-mid, lstm, birth or cohort-base instead of all
  --precisions LIST f32, tf32, bf16, with commas between them [tf32,bf16; on the CPU f32]
  --cohort N        seeds that ours trains at once, 0 for none [25]
  --minutes N       begin nothing after so long, and say what is missing [9]
  --table FILE      write the table to this file too, after every row
  --commit COMMIT   what was built, for the history";

/// Does what the arguments of the program say, a comparison or one side of it.
#[must_use]
pub fn main() -> std::process::ExitCode {
    memory::keep_freed();
    if let Err(message) = to_repository() {
        tell(&format!("error: {message}"));
        return std::process::ExitCode::from(2);
    }
    // `cargo bench` says `--bench` to every program it starts.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let outcome = match args.first().map(String::as_str) {
        Some("worker") => return worker(&args[1..]),
        Some("gpu") => gpu::Flags::parse(&args[1..]).and_then(|flags| gpu::run(&flags)),
        Some("throughput") => {
            compare::Flags::parse(&args[1..]).and_then(|flags| throughput::run(&flags))
        }
        _ => compare::Flags::parse(&args).and_then(|flags| compare::run(&flags)),
    };
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(message) => {
            tell(&format!("error: {message}\n\n{HELP}"));
            std::process::ExitCode::from(2)
        }
    }
}

/// One side; whoever started it wants the reason of a failure in one line and no help.
fn worker(args: &[String]) -> std::process::ExitCode {
    match worker::serve(args) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(message) => {
            let words: Vec<&str> = message.split_whitespace().collect();
            tell(&format!("error: {}", words.join(" ")));
            std::process::ExitCode::from(2)
        }
    }
}

/// Goes to the root of the repository, from where paths are meant: `cargo bench` starts its programs in the folder
/// of their package, and says which that is.
fn to_repository() -> Result<(), String> {
    let Some(package) = std::env::var_os("CARGO_MANIFEST_DIR") else { return Ok(()) };
    let root = std::path::Path::new(&package).join("..");
    std::env::set_current_dir(&root).map_err(|error| format!("{}: {error}", root.display()))
}

/// A line for the person who waits; results go to standard output.
#[expect(clippy::print_stderr, reason = "a bench reports to the person who runs it")]
fn tell(line: &str) {
    eprintln!("{line}");
}

/// A line of the result.
#[expect(clippy::print_stdout, reason = "a bench reports to the person who runs it")]
fn say(line: &str) {
    println!("{line}");
}
