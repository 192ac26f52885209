//! What went wrong, once for people and once for programs.

use std::error::Error as StdError;
use std::fmt::Display;

use mnemoscope_lab as lab;
use mnemoscope_lab::plan::Place;
use mnemoscope_lab::task;
use mnemoscope_store as store;
use mnemoscope_view::complaint::{self, Complaint};
use mnemoscope_view::{WIDTH, text};
use serde_json::{Value, json};

use crate::exit::{self, Exit};

/// A failure of the command, ready to be said.
#[derive(Debug)]
pub(crate) struct Failure {
    /// How the command ends.
    pub(crate) exit: Exit,
    /// The kind, as programs call it.
    pub(crate) kind: &'static str,
    /// What went wrong, as a lower-case fragment that ends with what to do.
    pub(crate) message: String,
    /// Why, the nearest cause first.
    pub(crate) causes: Vec<String>,
    /// What to do next.
    pub(crate) help: Vec<String>,
    /// Everything that is wrong with a spec.
    pub(crate) complaints: Vec<Complaint>,
}

impl Failure {
    fn new((exit, kind): (Exit, &'static str), message: impl Display) -> Self {
        Self {
            exit,
            kind,
            message: message.to_string(),
            causes: Vec::new(),
            help: Vec::new(),
            complaints: Vec::new(),
        }
    }

    /// The command line asks for something that makes no sense.
    pub(crate) fn usage(message: impl Display) -> Self {
        Self::new((Exit::Usage, "usage"), message)
    }

    /// What was asked for was done, and did not come out as it should.
    pub(crate) fn check(message: impl Display) -> Self {
        Self::new((Exit::CheckFailed, "check"), message)
    }

    /// An input is not what it should be.
    pub(crate) fn input(message: impl Display) -> Self {
        Self::new((Exit::Input, "corrupt"), message)
    }

    /// The machine refused.
    pub(crate) fn machine(message: impl Display) -> Self {
        Self::new((Exit::Machine, "machine"), message)
    }

    /// Somebody asked to stop.
    pub(crate) fn interrupted(message: impl Display) -> Self {
        Self::new((Exit::Interrupted, "interrupted"), message)
    }

    /// The same, with something to do about it.
    #[must_use]
    pub(crate) fn help(mut self, help: impl Display) -> Self {
        self.help.push(help.to_string());
        self
    }

    /// The same, with what lies below it.
    #[must_use]
    pub(crate) fn because(mut self, cause: &dyn StdError) -> Self {
        self.causes = chain(Some(cause));
        self
    }

    /// The failure for people: `error: ...`, its causes, `help: ...`.
    pub(crate) fn to_text(&self) -> String {
        let mut page = if self.complaints.is_empty() {
            hanging("error: ", &self.message)
        } else {
            // The message lists the complaints too; they are laid out below instead.
            let headline = self.message.lines().next().unwrap_or_default();
            hanging("error: ", headline) + &complaint::lines(&self.complaints)
        };
        for cause in &self.causes {
            page += &hanging("  because: ", cause);
        }
        for help in &self.help {
            page += &hanging("help: ", help);
        }
        page
    }

    /// The failure for programs.
    pub(crate) fn to_json(&self) -> Value {
        let complaints: Vec<Value> = self
            .complaints
            .iter()
            .map(|it| json!({"place": it.place, "path": it.path, "message": it.message}))
            .collect();
        json!({
            "kind": self.kind,
            "exit_code": self.exit.code(),
            "message": self.message,
            "causes": self.causes,
            "help": self.help,
            "complaints": complaints,
        })
    }
}

/// A first word, then text that wraps beneath itself.
fn hanging(first: &str, rest: &str) -> String {
    let indent = " ".repeat(first.chars().count());
    let wrapped = text::wrap(rest, WIDTH, &indent);
    let mut page = first.to_owned();
    page += &format!("{}\n", wrapped.trim());
    page
}

/// What lies below a failure, the nearest first.
fn chain(mut next: Option<&dyn StdError>) -> Vec<String> {
    let mut causes: Vec<String> = Vec::new();
    while let Some(cause) = next {
        let said = cause.to_string();
        // A transparent error repeats what it wraps.
        if causes.last() != Some(&said) {
            causes.push(said);
        }
        next = cause.source();
    }
    causes
}

impl From<lab::Error> for Failure {
    fn from(error: lab::Error) -> Self {
        Self::from_shared(&error)
    }
}

impl Failure {
    /// The failure that an error is, where others need the error too.
    pub(crate) fn from_shared(error: &lab::Error) -> Self {
        let kind = error.kind();
        let mut failure = Self::new(exit::of_lab(kind), error);
        failure.causes = chain(error.source());
        let file = file_of(&failure.message);
        failure.complaints = error
            .complaints()
            .iter()
            .map(|complaint| Complaint {
                place: place_of(complaint.place, &file),
                path: complaint.path.clone(),
                message: complaint.message.clone(),
            })
            .collect();
        if kind == lab::ErrorKind::Spec && !failure.complaints.is_empty() {
            failure.help("`mnemoscope spec` prints every key with its default")
        } else {
            failure
        }
    }
}

/// The file that a refusal of a spec names in its first line: `... wrong with FILE:`.
fn file_of(message: &str) -> String {
    let headline = message.lines().next().unwrap_or_default();
    let named = headline.split_once(" with ").map_or("spec", |(_, file)| file);
    named.trim_end_matches(':').to_owned()
}

fn place_of(place: Place, file: &str) -> String {
    match place {
        Place::File { line, column } => format!("{file}:{line}:{column}"),
        Place::Set => "--set".to_owned(),
        Place::Default => file.to_owned(),
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        let mut failure = Self::new(exit::of_store(error.kind()), &error);
        failure.causes = chain(error.source());
        failure
    }
}

impl From<task::Error> for Failure {
    fn from(error: task::Error) -> Self {
        let mut failure = Self::new(exit::of_task(error.kind()), &error);
        failure.causes = chain(error.source());
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_wrapped_under_its_own_first_word() {
        let failure = Failure::machine("cannot write ".to_owned() + &"a very long path ".repeat(6))
            .because(&std::io::Error::other("no space left on device"))
            .help("free some space and run the same command again");
        assert_eq!(
            failure.to_text(),
            "error: cannot write a very long path a very long path a very long path a very\n       \
             long path a very long path a very long path\n  \
             because: no space left on device\n\
             help: free some space and run the same command again\n"
        );
        let json = failure.to_json();
        assert_eq!(json["exit_code"], 4);
        assert_eq!(json["causes"][0], "no space left on device");
    }

    #[test]
    fn complaints_of_a_spec_are_laid_out_and_not_said_twice() {
        let refused = lab::plan::resolve("[model]\nn_layer = 2\n", None, &[], None).unwrap_err();
        let page = Failure::from(refused).to_text();
        assert_eq!(page.matches("n_layer:").count(), 0, "{page}");
        assert!(page.contains("\n  spec:2:1  model.n_layer\n      unknown key"), "{page}");
        assert!(page.ends_with("help: `mnemoscope spec` prints every key with its default\n"));
    }
}
