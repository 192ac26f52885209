//! `mnemoscope show`: the page of one run.

use clap::Args;
use mnemoscope_store::Status;
use mnemoscope_view::run::RunPage;
use serde_json::Value;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use crate::voice::Spoken;

/// Flags of `show`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// `latest`, or the beginning of a run's id
    run: String,
    /// Also read every file of the record and compare its checksum
    #[arg(long)]
    verify: bool,
}

struct Shown(RunPage);

impl Spoken for Shown {
    fn page(&self) -> String {
        self.0.to_text()
    }

    fn json(&self) -> Value {
        self.0.to_json()
    }

    fn brief(&self) -> String {
        format!("{}\n", self.0.status)
    }
}

/// Shows a run; one with damage is shown as far as it can be read, and ends with that exit code.
pub(crate) fn run(flags: &Flags, session: &mut Session) -> Result<Exit, Failure> {
    let run = session.store()?.find(&flags.run)?;
    let mut page = RunPage::read(&run)?;
    if flags.verify {
        page.problems.extend(run.verify()?);
    }
    // What an interrupted run did not finish writing is torn, and the rest of it is sound.
    let n_expected = usize::from(run.events().torn.is_some() && run.status() != Status::Sealed);
    let damaged = page.problems.len() > n_expected || matches!(page.result, Some(Err(_)));
    session.say(&Shown(page), if damaged { Exit::Input } else { Exit::Done })
}
