//! One side of a comparison: a process that does a block of work when it is asked to.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::process::{Child, ChildStdin, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::tell;
use crate::workload::Workload;

/// One side of a comparison: a process that does a block when asked.
pub(crate) struct Side {
    name: &'static str,
    child: Child,
    ask: ChildStdin,
    hear: Receiver<String>,
    /// What it says on standard error, if that is a pipe.
    complaints: Option<Receiver<String>>,
    /// How long to wait for an answer, if not for ever.
    patience: Option<Duration>,
    /// What it said of itself; nothing before [`Self::greet`].
    pub(crate) hello: Value,
    /// Seconds of one unit of work in each round.
    pub(crate) wall: Vec<f64>,
    cpu: Vec<f64>,
}

impl Side {
    /// Starts a process and waits until it is ready.
    pub(crate) fn start(name: &'static str, command: Command) -> Result<Self, String> {
        let mut side = Self::launch(name, command)?;
        side.greet()?;
        Ok(side)
    }

    /// Starts a process; whoever pipes its standard error gets its last words as the reason of a failure.
    pub(crate) fn launch(name: &'static str, mut command: Command) -> Result<Self, String> {
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = started.map_err(|error| format!("{name}: cannot start: {error}"))?;
        let (ask, hear) = (child.stdin.take(), child.stdout.take());
        let (ask, hear) = ask.zip(hear).ok_or_else(|| format!("{name}: no pipes"))?;
        let (hear, complaints) = (lines(hear, None), child.stderr.take());
        let complaints = complaints.map(|complaints| lines(complaints, Some(name)));
        let (wall, cpu, hello) = (Vec::new(), Vec::new(), Value::Null);
        Ok(Self { name, child, ask, hear, complaints, patience: None, hello, wall, cpu })
    }

    /// Waits no longer than this for an answer from here on.
    pub(crate) fn be_patient(&mut self, patience: Duration) {
        self.patience = Some(patience);
    }

    /// Waits until the process is ready.
    pub(crate) fn greet(&mut self) -> Result<(), String> {
        self.hello = self.listen()?;
        Ok(())
    }

    fn listen(&mut self) -> Result<Value, String> {
        loop {
            let heard = match self.patience {
                None => self.hear.recv().map_err(|_closed| RecvTimeoutError::Disconnected),
                Some(patience) => self.hear.recv_timeout(patience),
            };
            match heard {
                // A library that prints between the answers does no harm.
                Ok(line) => match serde_json::from_str(&line) {
                    Ok(said) => return Ok(said),
                    Err(_) => tell(&format!("  {}: {line}", self.name)),
                },
                Err(RecvTimeoutError::Timeout) => {
                    let secs = self.patience.unwrap_or_default().as_secs();
                    return Err(format!("{}: no answer within {secs} seconds", self.name));
                }
                Err(RecvTimeoutError::Disconnected) => return Err(self.last_words()),
            }
        }
    }

    /// Why a process that stopped did so.
    fn last_words(&self) -> String {
        let Some(complaints) = &self.complaints else {
            return format!("{} stopped; what it said is above", self.name);
        };
        let mut said = Vec::new();
        // A grandchild may hold the pipe for longer than the child lives.
        while let Ok(line) = complaints.recv_timeout(Duration::from_millis(500)) {
            said.push(line);
        }
        let why = reason(&said).unwrap_or("it said nothing");
        format!("{} stopped: {why}", self.name)
    }

    /// Asks for a block and waits for it to end.
    pub(crate) fn turn(&mut self) -> Result<(), String> {
        self.begin_turn()?;
        self.end_turn()
    }

    /// Asks for a block.
    pub(crate) fn begin_turn(&mut self) -> Result<(), String> {
        // Who cannot be asked has stopped, and listening tells why.
        let asked = writeln!(self.ask, "go");
        asked.or_else(|_closed| self.listen().map(drop))
    }

    /// Waits for the block to end.
    pub(crate) fn end_turn(&mut self) -> Result<(), String> {
        let said = self.listen()?;
        let n = self.hello["n_per_block"].as_f64().unwrap_or(f64::NAN);
        self.wall.push(said["wall_secs"].as_f64().unwrap_or(f64::NAN) / n);
        self.cpu.push(said["cpu_secs"].as_f64().unwrap_or(f64::NAN) / n);
        Ok(())
    }

    /// Lets the side end and asks for its memory. Whoever was told to be patient for so long ends it after that.
    pub(crate) fn finish(self) -> Result<Finished, String> {
        let Self { name, mut child, ask, hear, patience, hello, wall, cpu, .. } = self;
        drop(ask);
        let heard = match patience {
            None => hear.recv().ok(),
            Some(patience) => hear.recv_timeout(patience).ok(),
        };
        let said = heard.and_then(|line| serde_json::from_str::<Value>(&line).ok());
        let killed = if patience.is_some() { child.kill() } else { Ok(()) };
        killed.and_then(|()| child.wait()).map_err(|error| format!("{name}: {error}"))?;
        let peak_bytes = said.and_then(|said| said["peak_bytes"].as_u64());
        Ok(Finished { name, hello, wall, cpu, peak_bytes })
    }

    /// Ends a side that is of no further use.
    pub(crate) fn end(mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            tell(&format!("{}: {error}", self.name));
        }
    }
}

/// What a side measured.
pub(crate) struct Finished {
    /// What it is called in reports.
    pub(crate) name: &'static str,
    /// What it said of itself.
    pub(crate) hello: Value,
    /// Seconds of one unit of work in each round.
    pub(crate) wall: Vec<f64>,
    /// Seconds of all its threads for one unit, likewise.
    pub(crate) cpu: Vec<f64>,
    /// The most memory it held.
    pub(crate) peak_bytes: Option<u64>,
}

/// The lines of a pipe as they come, told to the person who waits if they have a name.
fn lines(pipe: impl Read + Send + 'static, told_as: Option<&'static str>) -> Receiver<String> {
    let (send, receive) = channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if let Some(name) = told_as {
                tell(&format!("  {name}: {line}"));
            }
            // A pipe is read to its end even if nobody listens: who writes must not be held up.
            drop(send.send(line));
        }
    });
    receive
}

/// The line that says why a program stopped: of Rust what follows `error:` or the first line of a panic, of Python the
/// last line of the traceback that names an exception, and else the last line.
fn reason(said: &[String]) -> Option<&str> {
    let lines = || said.iter().map(String::as_str).rev();
    let of_rust = lines().find_map(|line| line.strip_prefix("error: "));
    let panicked = said.iter().position(|line| line.contains("panicked at"));
    let of_panic = panicked.and_then(|at| said.get(at + 1)).map(String::as_str);
    let exception = |line: &&str| {
        let named = line.split_once(':').map(|(name, _)| name);
        named.is_some_and(|name| {
            let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "._".contains(c));
            plain && ["Error", "Exception"].iter().any(|end| name.ends_with(end))
        })
    };
    let of_python = || lines().find(exception);
    let last = || lines().find(|line| !line.trim().is_empty());
    of_rust.or(of_panic).or_else(of_python).or_else(last)
}

/// The command that serves our side.
pub(crate) fn ours(
    workload: &Workload,
    n_threads: usize,
    device: &str,
    precision: &str,
    n_members: usize,
) -> Result<Command, String> {
    let this = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
    let mut command = Command::new(this);
    let counts = [n_threads, n_members].map(|count| count.to_string());
    command.args(["worker", workload.name, &counts[0], device, precision, &counts[1]]);
    Ok(command)
}

/// Appends to a file, which is made if it is not there.
pub(crate) fn append(file: &Path, words: &str) -> Result<(), String> {
    let opened = std::fs::OpenOptions::new().create(true).append(true).open(file);
    let written = opened.and_then(|mut opened| opened.write_all(words.as_bytes()));
    written.map_err(|error| format!("{}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::reason;

    #[test]
    fn the_reason_of_a_failure_is_found_among_what_was_said() {
        let check = |said: &str, expected: Option<&str>| {
            let said: Vec<String> = said.lines().map(str::to_owned).collect();
            assert_eq!(reason(&said), expected);
        };
        check("error: no device\n\nUsage: compare", Some("no device"));
        check(
            "thread 'main' panicked at a.rs:1:2:\nout of memory\nnote: run with `RUST_BACKTRACE=1`",
            Some("out of memory"),
        );
        check(
            "Traceback:\n  File x\ntorch.cuda.OutOfMemoryError: no room\n\nSet TORCHDYNAMO_VERBOSE=1",
            Some("torch.cuda.OutOfMemoryError: no room"),
        );
        check("a warning: of something\nKilled\n", Some("Killed"));
        check("", None);
    }
}
