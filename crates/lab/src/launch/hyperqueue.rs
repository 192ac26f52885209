//! HyperQueue: a file of tasks, for `hq job submit-file`.
//!
//! # Source
//!
//! The format is that of HyperQueue's page "Job Definition File".

use serde::Serialize;

use super::Command;

/// The whole file.
#[derive(Serialize)]
struct File<'a> {
    name: &'a str,
    task: Vec<Task>,
}

#[derive(Serialize)]
struct Task {
    id: usize,
    command: Vec<String>,
    stdout: String,
    stderr: String,
    request: [Request; 1],
}

#[derive(Serialize)]
struct Request {
    resources: Resources,
}

#[derive(Serialize)]
struct Resources {
    cpus: usize,
}

/// The file of a sweep: a task for each shard that has open plans.
///
/// # Panics
///
/// Never: what it writes is always TOML.
///
/// # Example
///
/// ```
/// use mnemoscope_lab::launch::{Command, hyperqueue::file};
///
/// let command = Command { words: vec!["mnemoscope".into(), "sweep".into(), "a.toml".into()], n_shards: 4 };
/// let text = file("a", &command, &[0, 3], 1, "/runs/.sweeps/3f9c");
/// assert!(text.contains("3/4") && !text.contains("1/4"), "{text}");
/// ```
#[must_use]
pub fn file(
    name: &str,
    command: &Command,
    tasks: &[usize],
    n_cpus: usize,
    log_folder: &str,
) -> String {
    let task = |&id: &usize| {
        let shard = ["--shard".to_owned(), format!("{id}/{}", command.n_shards)];
        Task {
            id,
            command: command.words.iter().cloned().chain(shard).collect(),
            stdout: format!("{log_folder}/task-{id}.out"),
            stderr: format!("{log_folder}/task-{id}.log"),
            request: [Request { resources: Resources { cpus: n_cpus } }],
        }
    };
    let file = File { name, task: tasks.iter().map(task).collect() };
    toml::to_string(&file).expect("texts and numbers are TOML")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_toml_with_a_task_for_each_open_shard() {
        let words = ["/opt/it's here/mnemoscope", "sweep", "a \"b\".toml", "--json"];
        let command = Command { words: words.map(str::to_owned).to_vec(), n_shards: 9 };
        let text = file("my sweep", &command, &[2, 8], 2, "/runs");
        let read: toml::Value = toml::from_str(&text).unwrap();
        assert_eq!(read["name"].as_str(), Some("my sweep"));
        let tasks = read["task"].as_array().unwrap();
        assert_eq!(tasks.len(), 2);
        assert_eq!(tasks[1]["id"].as_integer(), Some(8));
        let said: Vec<&str> =
            tasks[1]["command"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
        assert_eq!(said, [&words[..], &["--shard", "8/9"]].concat());
        assert_eq!(tasks[0]["request"][0]["resources"]["cpus"].as_integer(), Some(2));
    }
}
