//! Tells the command which commit it is built from, where that can be told, so that records can say it.

use std::process::Command;

/// The commit in short, with `-dirty` where the sources are not the committed ones; nothing outside of a clone.
fn commit() -> Option<String> {
    let said = Command::new("git")
        .args(["describe", "--always", "--dirty", "--exclude=*"])
        .output()
        .ok()?;
    let word = String::from_utf8(said.stdout).ok()?.trim().to_owned();
    (said.status.success() && !word.is_empty()).then_some(word)
}

fn main() {
    // Any source that changes makes a clean tree dirty, and so does going to another commit.
    for path in ["../../crates", "../../Cargo.lock", "build.rs"] {
        println!("cargo::rerun-if-changed={path}");
    }
    let head = Command::new("git")
        .args(["rev-parse", "--path-format=absolute", "--git-path", "logs/HEAD"])
        .output();
    if let Ok(head) = head
        && head.status.success()
    {
        println!("cargo::rerun-if-changed={}", String::from_utf8_lossy(&head.stdout).trim());
    }
    println!("cargo::rustc-env=MNEMOSCOPE_COMMIT={}", commit().unwrap_or_default());
}
