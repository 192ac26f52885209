//! `mnemoscope theory`: the theory of both papers, each formula beside a measurement.

use clap::{Args, ValueEnum};
use mnemoscope_lab::theory::bench::{Effort, Part};
use mnemoscope_lab::theory::{Allowed, Check};
use mnemoscope_view::table::{Align, Table};
use mnemoscope_view::{WIDTH, number, text};
use serde_json::{Value, json};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use crate::voice::Spoken;

/// What the column `allowed` means.
const ALLOWED: &str = "Allowed: an interval of 99.99 % that must hold the prediction, a difference \
                       (±), or a band (..) around a published value.";

/// Flags of `theory`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// Check fewer and smaller sizes, in about a second
    #[arg(long)]
    quick: bool,
    /// Check this part only; may be repeated
    #[arg(long = "part", value_name = "PART")]
    parts: Vec<Choice>,
    /// Seed of everything that is drawn; in one of 200 some true prediction is outside of its
    /// 99.99 % interval
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

/// A part of the theory, as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Choice {
    /// Gradients in closed form beside automatic differentiation
    Gradients,
    /// What each of three gradient steps stores
    Coefficients,
    /// Three gradient steps from nothing to an induction head
    ThreeSteps,
    /// The head written down at once
    HandBuilt,
    /// Random vectors and maps
    Geometry,
    /// Memories in two factors and in an MLP
    Extensions,
    /// Signal and noise by width and by examples
    Noise,
    /// Recall after one gradient step
    OneStep,
    /// The Transformer that never misreads flip-flop, written down
    FlipFlop,
}

impl Choice {
    fn part(self) -> Part {
        match self {
            Self::Gradients => Part::Gradients,
            Self::Coefficients => Part::Coefficients,
            Self::ThreeSteps => Part::ThreeSteps,
            Self::HandBuilt => Part::HandBuilt,
            Self::Geometry => Part::Geometry,
            Self::Extensions => Part::Extensions,
            Self::Noise => Part::Noise,
            Self::OneStep => Part::OneStep,
            Self::FlipFlop => Part::FlipFlop,
        }
    }
}

/// Parts of the theory that were checked.
pub(crate) struct Bench {
    quick: bool,
    seed: u64,
    parts: Vec<(Part, Vec<Check>)>,
}

impl Bench {
    /// Checks some parts, and says on the way which.
    pub(crate) fn run(parts: &[Part], effort: Effort, seed: u64, session: &mut Session) -> Self {
        let mut watch = session.watch_only();
        let mut checked = Vec::new();
        for (idx, part) in parts.iter().enumerate() {
            watch.advance("theory", idx as u64, parts.len() as u64, part.name());
            checked.push((*part, part.checks(effort, seed)));
        }
        watch.finish();
        Self { quick: effort == Effort::Quick, seed, parts: checked }
    }

    /// How many checks there are, and how many of them fail.
    pub(crate) fn counts(&self) -> [usize; 2] {
        [self.checks().count(), self.n_failed()]
    }

    fn checks(&self) -> impl Iterator<Item = &Check> {
        self.parts.iter().flat_map(|(_, checks)| checks)
    }

    fn n_failed(&self) -> usize {
        self.checks().filter(|check| !check.holds()).count()
    }

    fn exit(&self) -> Exit {
        if self.n_failed() == 0 { Exit::Done } else { Exit::CheckFailed }
    }
}

impl Spoken for Bench {
    fn page(&self) -> String {
        let mut page = String::new();
        for (part, checks) in &self.parts {
            let mut table = Table::new(&[
                ("", Align::Wrapped),
                ("predicted", Align::Right),
                ("measured", Align::Right),
                ("allowed", Align::Left),
                ("trials", Align::Right),
                ("", Align::Left),
            ]);
            for check in checks {
                table.row([
                    check.what.clone(),
                    short(check.predicted),
                    short(check.measured),
                    allowed(check.allowed),
                    number::count(check.n_trials),
                    if check.holds() { "holds" } else { "FAILS" }.to_owned(),
                ]);
            }
            page += &format!("{}\n\n{table}\n", part.title());
        }
        page += &text::wrap(ALLOWED, WIDTH, "");
        page += "\n";
        let (n, n_failed) = (self.checks().count(), self.n_failed());
        let checks = number::counted(n as u64, "check", "checks");
        page += &match n_failed {
            0 => format!("{checks}, {n} hold\n"),
            _ => format!("{checks}, {n_failed} FAIL\n"),
        };
        page
    }

    fn json(&self) -> Value {
        let check = |check: &Check| {
            json!({
                "what": check.what,
                "predicted": check.predicted,
                "measured": check.measured,
                "allowed": check.allowed,
                "n_trials": check.n_trials,
                "holds": check.holds(),
            })
        };
        let part = |(part, checks): &(Part, Vec<Check>)| {
            json!({
                "part": part.name(),
                "title": part.title(),
                "checks": checks.iter().map(check).collect::<Vec<_>>(),
            })
        };
        json!({
            "quick": self.quick,
            "seed": self.seed,
            "parts": self.parts.iter().map(part).collect::<Vec<_>>(),
            "ok": self.exit() == Exit::Done,
        })
    }
}

/// Three significant digits, below one in a thousand with an exponent.
fn short(value: f64) -> String {
    number::rate(value)
}

fn allowed(allowed: Allowed) -> String {
    match allowed {
        Allowed::Interval([low, high]) => number::interval([low, high]),
        Allowed::Within(difference) => format!("± {}", short(difference)),
        Allowed::Band([low, high]) => format!("{}..{}", short(low), short(high)),
    }
}

/// Checks the theory.
pub(crate) fn run(flags: &Flags, session: &mut Session) -> Result<Exit, Failure> {
    let effort = if flags.quick { Effort::Quick } else { Effort::Full };
    let wanted: Vec<Part> = flags.parts.iter().map(|choice| choice.part()).collect();
    let parts: Vec<Part> =
        Part::ALL.into_iter().filter(|part| wanted.is_empty() || wanted.contains(part)).collect();
    let bench = Bench::run(&parts, effort, flags.seed, session);
    let exit = bench.exit();
    session.say(&bench, exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_can_be_chosen() {
        let chosen: Vec<Part> =
            Choice::value_variants().iter().map(|choice| choice.part()).collect();
        assert_eq!(chosen, Part::ALL);
        for choice in Choice::value_variants() {
            let typed = choice.to_possible_value().map(|value| value.get_name().to_owned());
            assert_eq!(typed, Some(choice.part().name().replace('_', "-")));
        }
    }

    #[test]
    fn a_check_that_fails_is_seen_in_the_page_in_json_and_in_the_exit_code() {
        let check = Check::within("one is two", 2.0, 1.0, 0.1, 3);
        let bench = Bench { quick: true, seed: 0, parts: vec![(Part::Noise, vec![check])] };
        assert_eq!(bench.exit(), Exit::CheckFailed);
        let page = bench.page();
        assert!(page.contains("FAILS") && page.ends_with("1 check, 1 FAIL\n"), "{page}");
        assert_eq!(bench.json()["ok"], false);
        assert_eq!(bench.json()["parts"][0]["checks"][0]["holds"], false);
    }
}
