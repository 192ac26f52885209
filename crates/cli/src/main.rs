//! The command `mnemoscope`: flags, one file for each verb, voices and exit codes.
//!
//! The science is in `lab`, the pages are in `view`, the records in `store`; here they are only
//! asked. This is the one crate that reads the environment and speaks to a terminal.

mod command;
mod environment;
mod exit;
mod failure;
mod flags;
mod interrupt;
mod machine;
mod panics;
mod progress;
mod session;
mod voice;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;
use mnemoscope_lab::engine::memory;

use crate::environment::Environment;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::flags::Cli;
use crate::session::Session;
use crate::voice::Voice;

/// Training allocates and frees the same large buffers at every step.
#[global_allocator]
static ALLOCATOR: memory::Allocator = memory::Allocator;

fn main() -> ExitCode {
    memory::keep_freed();
    panics::of_devices_once();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let exit = match Cli::try_parse_from(&arguments) {
        Ok(cli) => obey(&cli),
        Err(refusal) => refuse(&refusal, &arguments),
    };
    ExitCode::from(exit.code())
}

/// Does what was asked and says what came of it, once.
fn obey(cli: &Cli) -> Exit {
    let mut voice = voice::choose(&cli.globals);
    let environment = Environment::read();
    let n_threads = match cli.globals.threads {
        Some(n_threads) => Ok(usize::from(n_threads)),
        None => environment.n_threads(),
    };
    let n_threads = n_threads.and_then(|n| environment.check(cli.globals.device).map(|()| n));
    match n_threads {
        Ok(n_threads) => {
            let store = cli.globals.store.clone().or(environment.store);
            let mut session = Session::new(store, n_threads, cli.globals.device, voice);
            match command::dispatch(&cli.verb, &mut session) {
                Ok(exit) => exit,
                Err(failure) => tell(&failure, session.voice.as_mut()),
            }
        }
        Err(failure) => tell(&failure, voice.as_mut()),
    }
}

fn tell(failure: &Failure, voice: &mut dyn Voice) -> Exit {
    // If standard output is full as well, the failure itself still decides how we end.
    drop(voice.fail(failure));
    failure.exit
}

/// Answers a command line that clap did not accept: help and version are answers, not failures.
fn refuse(refusal: &clap::Error, arguments: &[OsString]) -> Exit {
    if matches!(refusal.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return match refusal.print() {
            Err(gone) if gone.kind() != std::io::ErrorKind::BrokenPipe => Exit::Machine,
            _ => Exit::Done,
        };
    }
    // The flags could not be read, so `--json` is looked for by hand.
    if arguments.iter().any(|argument| argument == "--json") {
        let said = refusal.render().to_string();
        let message = said.trim_start_matches("error: ").trim_end();
        return tell(&Failure::usage(message), &mut voice::json::Json { quiet: false });
    }
    drop(refusal.print());
    Exit::Usage
}
