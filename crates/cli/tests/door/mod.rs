//! A door to the built command: a fresh folder, an environment without surprises, and what it said.

#![allow(dead_code, clippy::allow_attributes, reason = "each test file uses its part of the door")]

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use assert_cmd::cargo::CommandCargoExt as _;
use serde_json::Value;
use tempfile::TempDir;

/// A spec that runs in a moment and errs: nothing is learned in eight steps.
pub(crate) const TINY: &str = include_str!("../../src/spec/doctor.toml");

/// A folder of its own for each test.
pub(crate) struct Door {
    folder: TempDir,
}

/// What the command said.
pub(crate) struct Said {
    arguments: String,
    output: Output,
}

impl Door {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// The command with these arguments, not yet run.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::cargo_bin("mnemoscope").unwrap();
        command.args(arguments).current_dir(self.folder.path());
        command.env_remove("MNEMOSCOPE_STORE").env("MNEMOSCOPE_THREADS", "2");
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        self.with_env(arguments, &[])
    }

    pub(crate) fn with_env(&self, arguments: &[&str], env: &[(&str, &str)]) -> Said {
        let output = self.command(arguments).envs(env.iter().copied()).output().unwrap();
        Said { arguments: arguments.join(" "), output }
    }

    /// With standard output going into `file`.
    pub(crate) fn run_into(&self, arguments: &[&str], file: &Path) -> Said {
        let file = File::options().write(true).open(file).unwrap();
        let mut command = self.command(arguments);
        let child = command.stdout(file).stderr(std::process::Stdio::piped()).spawn().unwrap();
        let output = child.wait_with_output().unwrap();
        Said { arguments: arguments.join(" "), output }
    }
}

impl Said {
    /// Checks how the command ended.
    #[track_caller]
    pub(crate) fn code(self, expected: i32) -> Self {
        let code = self.output.status.code();
        assert_eq!(code, Some(expected), "mnemoscope {}\n{}", self.arguments, self.all());
        self
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8(self.output.stdout.clone()).unwrap()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8(self.output.stderr.clone()).unwrap()
    }

    pub(crate) fn all(&self) -> String {
        self.stdout() + &self.stderr()
    }

    /// Standard error with its line breaks taken out, to look for a sentence that may wrap.
    pub(crate) fn words(&self) -> String {
        self.stderr().split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Standard output, which must be exactly one JSON value.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let text = self.stdout();
        match serde_json::from_str(&text) {
            Ok(value) => value,
            Err(why) => panic!("mnemoscope {}: {why}\n{text}", self.arguments),
        }
    }
}

/// Starts a command, sends it Ctrl-C after its first line, and returns that line and the others.
#[cfg(unix)]
pub(crate) fn interrupted(mut command: Command) -> (String, String) {
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    // The first line says that work has begun; the signal may then come at any moment.
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let began = lines.next().unwrap().unwrap();
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let words = lines.map(Result::unwrap).collect::<Vec<_>>().join("\n");
    assert_eq!(child.wait().unwrap().code(), Some(130), "{words}");
    (began, words)
}
