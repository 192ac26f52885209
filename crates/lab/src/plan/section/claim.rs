//! `[[claim]]` and `[[published]]`: what a study is held against.

use crate::plan::claim::{About, Claim, Comparison, Expected, Measure, Published, Runs};
use crate::plan::complaint::{Fault, Place};
use crate::plan::reader::{Allowed, Section};
use crate::plan::tree::Value;

/// A claim, with the places where its names stand.
pub(crate) struct ClaimRead {
    pub(crate) claim: Claim,
    pub(crate) path: String,
    pub(crate) arm_place: Place,
    pub(crate) about_place: Place,
    /// Where the arm is named that it is compared with.
    pub(crate) than_place: Place,
}

/// Published numbers, with the place where the arm is named.
pub(crate) struct PublishedRead {
    pub(crate) published: Published,
    pub(crate) path: String,
    pub(crate) arm_place: Place,
}

/// Reads one claim; `None` if a part without which it says nothing is missing.
///
/// # Arguments
///
/// - `only_arm`: the arm of a spec that has one; then it need not be named.
pub(crate) fn read_claim(
    mut section: Section<'_, '_>,
    only_arm: Option<&str>,
) -> Option<ClaimRead> {
    let text = required(&mut section, "text", "the claim in words");
    let source = required(&mut section, "source", "who claims it, and where");
    let arm = read_arm(&mut section, only_arm);
    let of_probe = section.has("probe");
    let about = if of_probe { read_probe(&mut section) } else { read_set(&mut section) };
    let expected = read_expected(&mut section, about.as_ref());
    let runs = section.choice("runs", Runs::ALL, Runs::Each);
    let arm_place = section.place_of("arm");
    let about_place = section.place_of(if of_probe { "probe" } else { "set" });
    let than_place = section.place_of("than");
    let path = section.path().to_owned();
    section.finish();
    let claim =
        Claim { text: text?, source: source?, arm: arm?, about: about?, expected: expected?, runs };
    Some(ClaimRead { claim, path, arm_place, about_place, than_place })
}

fn read_arm(section: &mut Section<'_, '_>, only_arm: Option<&str>) -> Option<String> {
    match only_arm {
        Some(name) if !section.has("arm") => {
            section.know("arm");
            Some(name.to_owned())
        }
        _ => required(section, "arm", "the name of an arm"),
    }
}

fn read_set(section: &mut Section<'_, '_>) -> Option<About> {
    section.know("probe");
    section.know("iteration");
    let set = required(section, "set", "the name of an evaluation set, such as val_sparse");
    let measure = section.choice("measure", Measure::ALL, Measure::NErrors);
    if !section.has("measure") {
        let message = "missing; a claim about a set says measure, op and bound, such as \
                       `measure = \"n_errors\"`, `op = \"==\"`, `bound = 0`";
        section.complain(Fault::Value, "measure", message.to_owned());
    }
    Some(About::Set { set: set?, measure })
}

fn read_probe(section: &mut Section<'_, '_>) -> Option<About> {
    let probe = section.text("probe")?.to_owned();
    if !section.has("iteration") {
        let message = "missing; say at which published iteration, from 0";
        section.complain(Fault::Value, "iteration", message.to_owned());
    }
    let iteration = section.whole("iteration", 0, 0..=u64::MAX - 1);
    Some(About::Probe { probe, iteration })
}

fn read_expected(section: &mut Section<'_, '_>, about: Option<&About>) -> Option<Expected> {
    if let Some(within) = section.reals("within") {
        let [low, high] = within[..] else {
            let message = "two numbers are needed, such as `within = [0.35, 0.55]`";
            section.complain(Fault::Value, "within", message.to_owned());
            return None;
        };
        if low > high {
            let message = format!("{low} lies above {high}; write the lower number first");
            section.complain(Fault::Value, "within", message);
        }
        refuse_beside(section, "within", &["op", "bound", "than", "factor"]);
        return Some(Expected::Within { within: [low, high] });
    }
    if section.has("than") {
        return read_beside(section);
    }
    refuse_beside(section, "bound", &["factor"]);
    let op = section.choice("op", Comparison::ALL, Comparison::Equal);
    let allowed = match about {
        Some(About::Set { measure: Measure::NErrors, .. }) => Allowed::COUNT,
        Some(About::Set { .. }) => Allowed::SHARE,
        Some(About::Probe { .. }) | None => Allowed::ANY,
    };
    let bound = section.real("bound", 0.0, allowed);
    for key in ["op", "bound"] {
        if !section.has(key) {
            let message = "missing; a claim says op and bound, such as `op = \"==\"`, `bound = 0`, or \
                           `within = [0.35, 0.55]`";
            section.complain(Fault::Value, key, message.to_owned());
        }
    }
    Some(Expected::Compared { op, bound })
}

/// A claim about two arms.
fn read_beside(section: &mut Section<'_, '_>) -> Option<Expected> {
    let than = required(section, "than", "the name of the other arm");
    let op = section.choice("op", Comparison::SIDES, Comparison::Less);
    if !section.has("op") {
        let message = "missing; an arm is `op = \"<\"` or `op = \">\"` than another";
        section.complain(Fault::Value, "op", message.to_owned());
    }
    let factor = section.real("factor", 1.0, Allowed::POSITIVE);
    refuse_beside(section, "than", &["bound", "runs"]);
    Some(Expected::Beside { op, than: than?, factor })
}

/// Complains about keys that do not go with another one, and knows them.
fn refuse_beside(section: &mut Section<'_, '_>, with: &str, keys: &[&'static str]) {
    for &key in keys {
        if section.has(key) {
            let message = format!("does not go with {with}; leave one out");
            section.complain(Fault::Together, key, message);
        }
        section.know(key);
    }
}

/// Reads one table of published numbers.
/// What a curve is whose values are in a picture and nowhere else: only what is measured is shown of it.
const NOT_TRANSCRIBED: &str = "not transcribed";

pub(crate) fn read_published(
    mut section: Section<'_, '_>,
    only_arm: Option<&str>,
) -> Option<PublishedRead> {
    let source = required(&mut section, "source", "where they were published");
    let arm = read_arm(&mut section, only_arm);
    let iterations = section.reals("iterations").unwrap_or_default();
    let whole = |&number: &f64| number >= 0.0 && number.fract().abs() <= 0.0;
    if iterations.is_empty() || !iterations.iter().all(whole) {
        let message = "say the published iterations, such as `iterations = [0, 25, 50]`";
        section.complain(Fault::Value, "iterations", message.to_owned());
    }
    let mut table = section.table("values");
    let mut values = std::collections::BTreeMap::new();
    for (probe, entry) in table.values() {
        if matches!(&entry.node.value, Value::Text(said) if said == NOT_TRANSCRIBED) {
            table.accept(probe);
            values.insert(probe.clone(), Vec::new());
            continue;
        }
        let numbers = table.reals_of_any_name(probe).unwrap_or_default();
        if numbers.len() != iterations.len() {
            let message = format!(
                "there are {} numbers for {} iterations; write one each",
                numbers.len(),
                iterations.len()
            );
            table.complain(Fault::Value, probe, message);
        }
        values.insert(probe.clone(), numbers);
    }
    table.finish();
    let (path, arm_place) = (section.path().to_owned(), section.place_of("arm"));
    section.finish();
    let iterations = iterations.into_iter().map(|number| number as u64).collect();
    let published = Published { arm: arm?, source: source?, iterations, values };
    Some(PublishedRead { published, path, arm_place })
}

/// Words without which a claim says nothing.
fn required(section: &mut Section<'_, '_>, key: &'static str, what: &str) -> Option<String> {
    if !section.has(key) {
        section.know(key);
        section.complain(Fault::Value, key, format!("missing; say {what}"));
        return None;
    }
    section.text(key).map(str::to_owned)
}
