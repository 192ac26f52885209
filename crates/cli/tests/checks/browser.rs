//! The dashboard in a real browser: Debian's Chromium, driven by Playwright, over real runs and while one trains.
//!
//! What a person does there is in `browser.mjs`; this finds the programs, makes the runs and starts the dashboard. Playwright is
//! installed into a folder that goes again.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::Outcome;
use crate::door::{Door, TINY};

const SCRIPT: &str = include_str!("browser.mjs");
/// Steps of the run that is watched: it trains for some seconds.
const WATCHED_STEPS: &str = "train.n_steps=6000";

/// The check.
pub(crate) fn check() -> Outcome {
    let Some(chromium) =
        ["chromium", "chromium-browser", "google-chrome"].iter().find_map(|name| found(name))
    else {
        return left_out("no chromium");
    };
    if found("node").is_none() || found("npm").is_none() {
        return left_out("no node or no npm");
    }
    let door = Door::new();
    let folder = door.path("node");
    std::fs::create_dir(&folder).unwrap();
    let mut npm = Command::new("npm");
    npm.args(["install", "--silent", "--no-audit", "--no-fund", "playwright-core"])
        .current_dir(&folder);
    if !npm.output().is_ok_and(|npm| npm.status.success()) {
        return left_out("`npm install playwright-core` does not work here");
    }
    let runs = runs(&door);
    let id = |idx: usize| runs[idx]["run"].as_str().unwrap().to_owned();
    let replay = door.run(&["replay", &format!("{}:0", id(0)), "--json"]).code(0).json();
    let rate = runs[0]["eval"]["val"]["error_rate"].as_f64().unwrap();

    let serve = ["serve", "--address", "127.0.0.1:0", "--json", "--quiet"];
    let mut served = door.command(&serve).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(served.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let said: Value = serde_json::from_str(&line).unwrap();
    let train = door.command(&["run", "watched.toml", "--quiet", "--set", WATCHED_STEPS]);
    let words = std::iter::once(train.get_program())
        .chain(train.get_args())
        .map(|word| word.to_str().unwrap());
    let told = json!({
        "url": said["url"], "chromium": chromium, "transformer": id(0), "lstm": id(1), "logits": replay["logits"],
        "rate": mnemoscope_view::number::rate(rate), "train": words.collect::<Vec<_>>(),
    });
    let script = folder.join("browser.mjs");
    std::fs::write(&script, SCRIPT).unwrap();
    let mut node = Command::new("node");
    node.arg(&script)
        .current_dir(door.path("."))
        .env("NODE_FOLDER", &folder)
        .env("TOLD", told.to_string());
    node.env("MNEMOSCOPE_THREADS", "1").env_remove("MNEMOSCOPE_STORE");
    let output = node.stderr(Stdio::inherit()).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    print!("{printed}");
    let kill = Command::new("kill").args(["-INT", &served.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let ended = served.wait().unwrap();
    assert!(output.status.success(), "the browser found something; it is above");
    assert_eq!(ended.code(), Some(0), "Ctrl-C ends the dashboard");
    let measured = printed.lines().find_map(|line| line.strip_prefix("measured: ")).unwrap();
    let n_held = printed.lines().filter(|line| line.starts_with("holds: ")).count();
    Outcome::Holds(format!("{n_held} things that a person does; {measured}"))
}

fn left_out(why: &str) -> Outcome {
    Outcome::LeftOut(format!("{why}; it needs chromium, nodejs and npm"))
}

/// Where a program is.
fn found(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|it| it.is_file())
}

/// Two arms that learn nothing, with the state they had on the way.
fn runs(door: &Door) -> Vec<Value> {
    let arms = "[[arm]]\nname = \"transformer\"\n[[arm]]\nname = \"lstm\"\nmodel = { name = \"lstm\", d_model = 8 }\n";
    let claim = "[[claim]]\ntext = \"nothing is learned\"\nsource = \"here\"\narm = \"lstm\"\nset = \"val\"\n\
                 measure = \"n_errors\"\nop = \">\"\nbound = 0\nruns = \"each\"\n";
    door.write(
        "study.toml",
        &format!("question = \"Does anything learn?\"\n{TINY}\n{arms}{claim}"),
    );
    door.write(
        "watched.toml",
        &format!("name = \"watched\"\nquestion = \"Is it seen?\"\n{TINY}\n"),
    );
    let run = ["run", "study.toml", "--json", "--checkpoint-every", "2", "--keep-checkpoints", "3"];
    let said = door.run(&run).code(0).json();
    said["runs"].as_array().unwrap().clone()
}
