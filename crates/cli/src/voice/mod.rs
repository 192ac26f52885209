//! How the command speaks: verbs say nothing by themselves, they hand a value to a voice.
//!
//! | Voice | Standard output | Standard error |
//! |---|---|---|
//! | [`table`] | pages for people | notes, progress, failures |
//! | [`json`] | exactly one JSON object | the pages for people, notes, progress, failures |
//! | [`quiet`] | the fewest words that a script can use | failures |

pub(crate) mod json;
pub(crate) mod quiet;
pub(crate) mod table;

use std::io::{self, Write};

use serde_json::Value;

use crate::failure::Failure;
use crate::flags::Globals;

/// Something a verb has to say, in every form a voice may want.
pub(crate) trait Spoken {
    /// For people: a page that fits 80 columns and ends with a line break.
    fn page(&self) -> String;

    /// For programs: an object with the fields of the page.
    fn json(&self) -> Value;

    /// For scripts: ids or paths, a line each; empty if the exit code says it all.
    fn brief(&self) -> String {
        String::new()
    }
}

/// One way of speaking.
pub(crate) trait Voice {
    /// Says the answer of a verb; called once.
    fn say(&mut self, answer: &dyn Spoken) -> io::Result<()>;

    /// Says something by the way, on standard error.
    fn note(&mut self, words: &str);

    /// Says what went wrong.
    fn fail(&mut self, failure: &Failure) -> io::Result<()>;

    /// Whether people are watching standard error for progress.
    fn shows_progress(&self) -> bool;

    /// Whether standard output belongs to one JSON object.
    fn is_json(&self) -> bool {
        false
    }
}

/// The voice that the flags ask for.
pub(crate) fn choose(globals: &Globals) -> Box<dyn Voice> {
    match (globals.json, globals.quiet) {
        (true, quiet) => Box::new(json::Json { quiet }),
        (false, true) => Box::new(quiet::Quiet),
        (false, false) => Box::new(table::Table),
    }
}

/// Writes to standard output; a reader that went away (`| head`) is no failure.
fn out(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(gone) if gone.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Writes to standard error. If even that is closed there is nobody left to tell.
fn err(text: &str) {
    let mut stderr = io::stderr().lock();
    drop(stderr.write_all(text.as_bytes()));
}
