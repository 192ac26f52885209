//! Slurm: one array of tasks, each a part of the sweep.
//!
//! A little before the time limit Slurm sends `USR1` to the script, which asks the command to save its state, and puts
//! the task back into the queue if there was something left to do. A task that was cancelled is not put back.

use std::fmt::Write as _;

use super::{Command, quoted};

/// The longest array that Slurm takes unless an administrator said otherwise (`MaxArraySize`).
pub const MOST_TASKS: usize = 1_000;

/// What an array of tasks asks for.
#[derive(Clone, Debug)]
pub struct Array {
    /// What the queue shows.
    pub name: String,
    /// What each task executes.
    pub command: Command,
    /// The tasks of the array: the shards that have open plans.
    pub tasks: Vec<usize>,
    /// Tasks at once; `None` leaves it to the cluster.
    pub most_at_once: Option<usize>,
    /// The time limit of a task, in Slurm's own form.
    pub time_limit: String,
    /// How long before the limit a task is asked to save its state.
    pub signal_secs: u32,
    /// Cores of a task.
    pub n_cpus: usize,
    /// Memory of a task.
    pub memory_bytes: u64,
    /// More arguments of `sbatch`, each as it stands on a command line.
    pub more: Vec<String>,
    /// Where the tasks say what they do, a file each.
    pub log_folder: String,
}

/// The script that `sbatch` is given.
#[must_use]
pub fn script(array: &Array) -> String {
    let mut text = String::from("#!/bin/sh\n");
    let mut directive = |option: &str, value: String| {
        // Writing into a text cannot fail.
        writeln!(text, "#SBATCH --{option}={value}").ok();
    };
    directive("job-name", quoted(&array.name));
    let at_once = array.most_at_once.map(|n| format!("%{n}")).unwrap_or_default();
    directive("array", format!("{}{at_once}", ranges(&array.tasks)));
    directive("time", array.time_limit.clone());
    directive("signal", format!("B:USR1@{}", array.signal_secs));
    directive("cpus-per-task", array.n_cpus.to_string());
    directive("mem", format!("{}M", array.memory_bytes.div_ceil(1 << 20)));
    directive("open-mode", "append".to_owned());
    directive("output", quoted(&format!("{}/task-%a.log", array.log_folder)));
    text.push_str("#SBATCH --requeue\n");
    for more in &array.more {
        writeln!(text, "#SBATCH {more}").ok();
    }
    let words: Vec<String> = array.command.words.iter().map(|word| quoted(word)).collect();
    let n_shards = array.command.n_shards;
    text.push_str(TRAPS);
    writeln!(text, "{} --shard \"$SLURM_ARRAY_TASK_ID/{n_shards}\" &", words.join(" ")).ok();
    text + TAIL
}

/// What signals mean, said before there can be one. Where a task is cancelled, Slurm tells the command itself.
const TRAPS: &str = r#"
again=
work=
trap 'again=yes; [ -z "$work" ] || kill -TERM "$work"' USR1
trap : TERM INT
"#;

/// What the script does while its command works: a shell waits, and a signal ends the waiting.
const TAIL: &str = r#"work=$!
[ -z "$again" ] || kill -TERM "$work"
wait "$work"
code=$?
while kill -0 "$work" 2>/dev/null; do
    wait "$work"
    code=$?
done
# 130: interrupted, and saved. Near the time limit the task goes on as another.
if [ "$code" -eq 130 ] && [ -n "$again" ]; then
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
fi
exit "$code"
"#;

/// Sorted numbers as Slurm writes them.
///
/// # Example
///
/// ```
/// use mnemoscope_lab::launch::slurm::ranges;
///
/// assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
/// ```
#[must_use]
pub fn ranges(numbers: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for &number in numbers {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => parts.push((number, number)),
        }
    }
    let words = parts.iter().map(|&(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    words.collect::<Vec<_>>().join(",")
}

/// The seconds of a time limit in one of Slurm's forms; `None` if it is none.
///
/// # Example
///
/// ```
/// use mnemoscope_lab::launch::slurm::limit_secs;
///
/// assert_eq!(limit_secs("90"), Some(90 * 60));
/// assert_eq!(limit_secs("1:30:00"), Some(90 * 60));
/// assert_eq!(limit_secs("1-12"), Some(36 * 3600));
/// assert_eq!(limit_secs("soon"), None);
/// ```
#[must_use]
pub fn limit_secs(text: &str) -> Option<u64> {
    let numbers = |text: &str| -> Option<Vec<u64>> {
        text.split(':').map(|part| part.parse::<u32>().ok().map(u64::from)).collect()
    };
    let secs = match text.split_once('-') {
        None => match numbers(text)?[..] {
            [minutes] => minutes * 60,
            [minutes, secs] => minutes * 60 + secs,
            [hours, minutes, secs] => hours * 3_600 + minutes * 60 + secs,
            _ => return None,
        },
        Some((days, rest)) => {
            let days = days.parse::<u32>().ok().map(u64::from)?;
            let rest = match numbers(rest)?[..] {
                [hours] => hours * 3_600,
                [hours, minutes] => hours * 3_600 + minutes * 60,
                [hours, minutes, secs] => hours * 3_600 + minutes * 60 + secs,
                _ => return None,
            };
            days * 86_400 + rest
        }
    };
    (secs > 0).then_some(secs)
}

/// The format of [`QueueLine`] for `squeue --noheader --array --format`.
pub const QUEUE_FORMAT: &str = "%K|%T|%M|%N";

/// A task that is still in the queue, waiting or running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueLine {
    /// Its number in the array.
    pub task: usize,
    /// Slurm's word for its state.
    pub state: String,
    /// How long it has run.
    pub elapsed: String,
    /// Where; empty while it waits.
    pub node: String,
}

/// Reads what `squeue` printed in [`QUEUE_FORMAT`]; lines of another form are passed over.
///
/// # Example
///
/// ```
/// use mnemoscope_lab::launch::slurm::queue_lines;
///
/// let lines = queue_lines("0|RUNNING|1:05|n2\n7|PENDING|0:00|\n");
/// assert_eq!((lines[0].task, lines[0].node.as_str()), (0, "n2"));
/// assert_eq!((lines[1].task, lines[1].state.as_str()), (7, "PENDING"));
/// ```
#[must_use]
pub fn queue_lines(printed: &str) -> Vec<QueueLine> {
    let line = |line: &str| {
        let [task, state, elapsed, node] = line.split('|').collect::<Vec<_>>().try_into().ok()?;
        let owned = |text: &str| text.trim().to_owned();
        Some(QueueLine {
            task: task.trim().parse().ok()?,
            state: owned(state),
            elapsed: owned(elapsed),
            node: owned(node),
        })
    };
    printed.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use insta::assert_snapshot;

    fn array() -> Array {
        let words = ["/opt/mnemoscope", "--store", "/data/my runs", "sweep", "/home/a/study.toml"];
        Array {
            name: "lstm vs transformer".to_owned(),
            command: Command { words: words.map(str::to_owned).to_vec(), n_shards: 8 },
            tasks: vec![0, 1, 2, 5],
            most_at_once: Some(4),
            time_limit: "2:00:00".to_owned(),
            signal_secs: 120,
            n_cpus: 2,
            memory_bytes: 300_000_000,
            more: vec!["--partition=main".to_owned()],
            log_folder: "/data/my runs/.sweeps/3f9c".to_owned(),
        }
    }

    #[test]
    fn the_script_of_an_array_stays_as_it_is() {
        assert_snapshot!(script(&array()));
    }

    /// Runs the script with a command and a `scontrol` of ours, and sends it signals.
    #[test]
    fn a_task_near_its_limit_saves_and_goes_back_into_the_queue_and_a_cancelled_one_does_not() {
        let check = |signal: &str, code: i32, expected: &str| {
            let folder = tempfile::tempdir().unwrap();
            let path = |name: &str| folder.path().join(name).display().to_string();
            let write = |name: &str, text: String| {
                std::fs::write(path(name), text).unwrap();
                let made = std::process::Command::new("chmod").args(["+x", &path(name)]).status();
                assert!(made.unwrap().success());
            };
            // It signals its parent once its own ears are open, and ends as it was told to. A cancelled task's
            // processes are all told.
            let told = path("told");
            let also = if signal == "TERM" { "kill -TERM $$\n" } else { "" };
            write(
                "work",
                format!(
                    "#!/bin/sh\necho $@ >{told}\ntrap 'exit {code}' TERM\n\
                     kill -{signal} $PPID\n{also}while :; do sleep 0.01; done\n"
                ),
            );
            write("scontrol", format!("#!/bin/sh\necho $@ >>{told}\n"));
            let command = Command { words: vec![path("work")], n_shards: 3 };
            write("script", script(&Array { command, ..array() }));
            let paths = format!("{}:/usr/bin:/bin", folder.path().display());
            let ended = std::process::Command::new("sh")
                .arg(path("script"))
                .env("PATH", paths)
                .env("SLURM_ARRAY_TASK_ID", "2")
                .env("SLURM_ARRAY_JOB_ID", "17")
                .status()
                .unwrap();
            assert_eq!(ended.code(), Some(code), "{signal}");
            assert_eq!(std::fs::read_to_string(&told).unwrap(), expected, "{signal}");
        };
        check("USR1", 130, "--shard 2/3\nrequeue 17_2\n");
        // What was done in time is not done again, and a failure is a failure.
        check("USR1", 0, "--shard 2/3\n");
        check("USR1", 1, "--shard 2/3\n");
        check("TERM", 130, "--shard 2/3\n");
    }

    #[test]
    fn time_limits_are_read_as_slurm_reads_them() {
        let check = |text: &str, secs: Option<u64>| assert_eq!(limit_secs(text), secs, "{text}");
        check("5", Some(300));
        check("5:30", Some(330));
        check("01:00:00", Some(3_600));
        check("2-0", Some(172_800));
        check("1-02:03", Some(93_780));
        check("1-02:03:04", Some(93_784));
        for wrong in ["", "0", "-1", "1:2:3:4", "1-", "1h", "1-1:1:1:1", "9999999999"] {
            check(wrong, None);
        }
    }

    #[test]
    fn what_is_no_line_of_the_queue_is_passed_over() {
        assert_eq!(queue_lines("slurm_load_jobs error: x\n0-7|PENDING|0:00|\n\n"), []);
    }
}
