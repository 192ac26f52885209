//! Ctrl-C: the state is saved, the command says how to go on, and the bits are the same.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod door;

use door::{Door, TINY, interrupted};

/// Enough steps that nobody finishes them before the signal arrives.
const LONG: &str = "train.n_steps=600";

#[test]
fn an_interrupted_run_goes_on_to_the_same_bits() {
    let door = Door::new();
    door.write("tiny.toml", TINY);
    let (began, words) =
        interrupted(door.command(&["run", "tiny.toml", "--set", LONG, "--checkpoint-every", "10"]));
    assert!(began.contains("run "), "{began}");
    assert!(words.contains("stopping: saving the state"), "{words}");
    assert!(words.contains("help: the same command goes on from there"), "{words}");

    let listed = door.run(&["runs", "--json"]).code(0).json();
    assert_eq!(listed["runs"][0]["status"], "interrupted");
    door.run(&["show", "latest"]).code(0);
    let resumed = door.run(&["run", "tiny.toml", "--set", LONG, "--json"]).code(0);
    assert!(resumed.stderr().contains("goes on at step"), "{}", resumed.stderr());
    let whole = door.run(&["run", "tiny.toml", "--set", LONG, "--store", "whole", "--json"]);
    let (resumed, whole) = (resumed.json(), whole.code(0).json());
    assert_eq!(resumed["checkpoint"], whole["checkpoint"]);
    for set in ["val", "val_sparse", "val_dense"] {
        assert_eq!(resumed["eval"][set]["n_errors"], whole["eval"][set]["n_errors"]);
    }
}
