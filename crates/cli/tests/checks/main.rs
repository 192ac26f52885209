//! Long checks of the built command, each a verb: `cargo test --test checks -- slurm`.
//!
//! | Verb | What it shows |
//! |---|---|
//! | `slurm` | a sweep on a real Slurm of two nodes, with killed tasks and daemons, ends as a local one |
//! | `kills` | a run killed at 200 random moments ends as one that was left alone |
//! | `thousand` | a thousand short runs cost little beside their work, and memory stays flat |
//! | `damage` | flipped bits, cut files and a full disk are named and never used |
//! | `browser` | what a person does with the dashboard, done by Chromium over real runs |
//! | `trackers` | the real TensorBoard, Trackio and `wandb sync` read what is written for them |
//!
//! They take minutes, wait for other programs and depend on what is installed, so `cargo test` leaves them out. A
//! check that cannot be made here says so in a line that begins with `left out`, and is no failure.

#![expect(clippy::unwrap_used, reason = "a check that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "a check says what it does")]

mod browser;
mod damage;
#[path = "../door/mod.rs"]
mod door;
mod kills;
mod record;
mod slurm;
mod thousand;
mod trackers;

/// What a check came to.
enum Outcome {
    /// It holds; in a few words, what was counted.
    Holds(String),
    /// It cannot be made here.
    LeftOut(String),
}

fn main() {
    let checks: [(&str, fn() -> Outcome); 6] = [
        ("slurm", slurm::check),
        ("kills", kills::check),
        ("damage", damage::check),
        ("thousand", thousand::check),
        ("trackers", trackers::check),
        ("browser", browser::check),
    ];
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let known = |name: &String| checks.iter().any(|(check, _)| check == name);
    if asked.is_empty() || !asked.iter().all(known) {
        println!("which of the checks? slurm, kills, damage, thousand, trackers, browser");
        return;
    }
    for (name, check) in checks.iter().filter(|(name, _)| asked.iter().any(|it| it == name)) {
        match check() {
            Outcome::Holds(words) => println!("check {name}: holds; {words}"),
            Outcome::LeftOut(why) => println!("left out: check {name}: {why}"),
        }
    }
}
