//! Sweeps on a cluster: what its scheduler is given to read. Nothing here runs a command.
//!
//! Every task of a job executes one [`Shard`](crate::sweep::Shard) of the sweep with the same command as a person
//! would type, and the store holds what is done. So a submission that is lost, stopped or given twice does no harm,
//! and a sweep goes on wherever the same store can be seen.

pub mod hyperqueue;
pub mod slurm;

/// A command whose last two words are added for each task: `--shard` and `i/n`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// Parts that the sweep is divided into.
    pub n_shards: usize,
}

/// A word as a POSIX shell takes it for itself.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=:,+@%".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        let words =
            ["plain", "", "two words", "it's", "$HOME `x` \"y\"", "train.lr=1e-3", "a\\b\nc;*"];
        for word in words {
            let script = format!("printf %s {}", quoted(word));
            let said = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(said.stdout).unwrap(), word);
        }
        assert_eq!(quoted("train.lr=1e-3"), "train.lr=1e-3");
    }
}
