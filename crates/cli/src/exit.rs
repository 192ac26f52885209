//! What the command says to the program that called it: the exit codes.
//!
//! | Code | Meaning |
//! |---:|---|
//! | 0 | done |
//! | 1 | a claim or a check failed |
//! | 2 | bad usage or a bad spec |
//! | 3 | an input is damaged, or of a release this one cannot read |
//! | 4 | the machine refused: disk, memory, device, or a record in use |
//! | 130 | interrupted; the state is saved |

use mnemoscope_lab as lab;
use mnemoscope_lab::task;
use mnemoscope_store as store;

/// How the command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything asked for was done.
    Done,
    /// It was done, and a claim or a check did not hold.
    CheckFailed,
    /// The command line or the spec is wrong.
    Usage,
    /// An input is damaged or incompatible.
    Input,
    /// The machine refused.
    Machine,
    /// Somebody asked to stop.
    Interrupted,
}

impl Exit {
    /// The number that the caller sees.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::CheckFailed => 1,
            Self::Usage => 2,
            Self::Input => 3,
            Self::Machine => 4,
            Self::Interrupted => 130,
        }
    }
}

// The matches below are exhaustive on purpose: a new kind of failure does not compile until
// somebody decides how the command ends, and what programs call the kind.

/// How the command ends when the laboratory fails, and the kind's name for programs.
pub(crate) fn of_lab(kind: lab::ErrorKind) -> (Exit, &'static str) {
    use lab::ErrorKind;
    match kind {
        ErrorKind::Spec => (Exit::Usage, "spec"),
        ErrorKind::NotFound => (Exit::Usage, "not-found"),
        ErrorKind::Incompatible => (Exit::Input, "incompatible"),
        ErrorKind::Corrupt => (Exit::Input, "corrupt"),
        ErrorKind::Machine => (Exit::Machine, "machine"),
        ErrorKind::Io => (Exit::Machine, "io"),
        // Nobody's input and nobody's machine: what was run did not work.
        ErrorKind::Diverged => (Exit::CheckFailed, "diverged"),
        ErrorKind::Crashed => (Exit::CheckFailed, "crashed"),
        ErrorKind::Interrupted => (Exit::Interrupted, "interrupted"),
    }
}

/// How the command ends when the store fails, and the kind's name for programs.
pub(crate) fn of_store(kind: store::ErrorKind) -> (Exit, &'static str) {
    use store::ErrorKind;
    match kind {
        ErrorKind::NotFound => (Exit::Usage, "not-found"),
        ErrorKind::Ambiguous => (Exit::Usage, "ambiguous"),
        ErrorKind::Invalid => (Exit::Usage, "usage"),
        ErrorKind::Incompatible => (Exit::Input, "incompatible"),
        ErrorKind::Corrupt => (Exit::Input, "corrupt"),
        ErrorKind::Locked => (Exit::Machine, "locked"),
        ErrorKind::Full => (Exit::Machine, "full"),
        ErrorKind::Io => (Exit::Machine, "io"),
    }
}

/// How the command ends when data cannot be read or written, and the kind's name for programs.
pub(crate) fn of_task(kind: task::ErrorKind) -> (Exit, &'static str) {
    use task::ErrorKind;
    match kind {
        ErrorKind::Invalid => (Exit::Usage, "usage"),
        ErrorKind::Corrupt => (Exit::Input, "corrupt"),
        ErrorKind::Full => (Exit::Machine, "full"),
        ErrorKind::Io => (Exit::Machine, "io"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_those_of_the_table_above() {
        let codes = [
            Exit::Done,
            Exit::CheckFailed,
            Exit::Usage,
            Exit::Input,
            Exit::Machine,
            Exit::Interrupted,
        ]
        .map(Exit::code);
        assert_eq!(codes, [0, 1, 2, 3, 4, 130]);
        let table = include_str!("exit.rs");
        for code in codes {
            assert!(table.contains(&format!("//! | {code} |")), "{code}");
        }
    }
}
