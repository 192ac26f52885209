//! From the text of a spec to a study.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::OnceLock;

use super::claim::About;
use super::complaint::{Complaints, Fault, Place};
use super::corpora::Corpora;
use super::reader::{Notes, Section};
use super::scale::lay_scale_over;
use super::section::{
    ClaimRead, PlanRead, PublishedRead, TOP, read_claim, read_plan, read_published,
};
use super::study::{Arm, Study};
use super::sweep::{self, Axis, Point};
use super::tree::{self, Table, Value};
use super::{Plan, suggest};
use crate::Error;

/// After this many complaints the rest of a sweep would only repeat them.
const ENOUGH: usize = 50;

/// Resolves the text of a spec to a study: defaults filled in, presets and sweeps expanded,
/// everything checked.
///
/// Values are laid over each other in this order: the spec, its scale, its arm, what the scale says of that arm, the
/// sweep, `sets`. A path
/// that `sets` decides is no longer swept. Without `[[arm]]` the spec itself is the only arm,
/// named after its model; what a sweep varies beside seeds makes arms of its own, named after the
/// values.
///
/// # Arguments
///
/// - `path`: where the text was read from, for complaints, for the study's name, and because the
///   texts that a spec names as corpora are looked for in its folder.
/// - `sets`: what `--set` says, each `path=value` with the spec's own paths. A path may begin with
///   `arm.NAME.` and then holds for that arm alone.
/// - `memory_bytes`: what the machine offers; a plan that needs more is refused before anything is
///   allocated. `None` refuses only what cannot be counted.
///
/// # Errors
///
/// `Spec`, with everything that is wrong, or `Machine`, if the only thing wrong is the size.
///
/// # Example
///
/// ```
/// use mnemoscope_lab::plan::resolve;
///
/// let spec = "
/// [model]
/// n_layer = 2
/// d_model = 60
/// ";
/// let error = resolve(spec, None, &["train.lr=-1".to_owned()], None).unwrap_err();
/// assert_eq!(error.to_string(), "\
/// 3 things are wrong with spec:
///   spec:3:1: model.n_layer: unknown key; did you mean `n_layers`?
///   spec:4:11: model.d_model: d_model = 60 is not divisible by n_heads = 8; d_model = 64 would be
///   --set train.lr: found -1; allowed: a number above 0");
/// ```
pub fn resolve(
    text: &str,
    path: Option<&Path>,
    sets: &[String],
    memory_bytes: Option<u64>,
) -> Result<Study, Error> {
    resolve_with(&Corpora::beside(path), text, path, sets, memory_bytes)
}

/// Resolves a spec that a record keeps. No file is read: a text that it names is a complaint.
///
/// # Errors
///
/// As [`resolve`].
pub fn resolve_stored(text: &str) -> Result<Study, Error> {
    resolve_with(&Corpora::built_in_only(), text, None, &[], None)
}

fn resolve_with(
    corpora: &Corpora,
    text: &str,
    path: Option<&Path>,
    sets: &[String],
    memory_bytes: Option<u64>,
) -> Result<Study, Error> {
    let file = path.map_or_else(|| "spec".to_owned(), |path| path.display().to_string());
    let notes = Notes::about(&file, vocabulary(), corpora);
    let spec = match tree::parse(text) {
        Ok(spec) => spec,
        Err(complaints) => {
            complaints.into_iter().for_each(|complaint| notes.push(complaint));
            return Err(refusal(notes.into_complaints()));
        }
    };
    let parts = Parts::take(spec, sets, &notes);
    let study = parts.study(path, &notes, memory_bytes);
    match notes.into_complaints().into_result() {
        Ok(()) => Ok(study),
        Err(complaints) => Err(complaints.into()),
    }
}

fn refusal(complaints: Complaints) -> Error {
    match complaints.into_result() {
        Err(complaints) => complaints.into(),
        Ok(()) => Complaints::about("spec").into(),
    }
}

/// Every path a spec may have.
pub(super) fn vocabulary() -> &'static BTreeSet<String> {
    /// One spec of each kind; together they are asked for every key there is.
    const KINDS: [&str; 7] = [
        "task = { name = 'mixture', parts = [{}] }\n\
         arm = [{ name = 'a' }]\nclaim = [{ text = 'a' }]\npublished = [{ values = {} }]\n\
         scale = 'a'\nscales.a = {}\nsweep = { seed = { count = 1 }, zip = [{}] }",
        "model.name = 'lstm'\ntrain.optimizer = 'sgd'",
        "task.name = 'bigram'",
        "task.name = 'automaton'",
        "model.name = 'associative'",
        "model.relative = 'rotary'",
        "model.relative = 't5'\ntrain.sharpen.anneal = 'linear'",
    ];
    static NOTHING: BTreeSet<String> = BTreeSet::new();
    static VOCABULARY: OnceLock<BTreeSet<String>> = OnceLock::new();
    VOCABULARY.get_or_init(|| {
        let mut known = BTreeSet::new();
        for kind in KINDS {
            let corpora = Corpora::default();
            let notes = Notes::about("", &NOTHING, &corpora);
            if let Ok(spec) = tree::parse(kind) {
                Parts::take(spec, &[], &notes).study(None, &notes, None);
            }
            known.extend(notes.known());
        }
        known
    })
}

/// A spec taken apart.
struct Parts {
    question: Option<String>,
    name: Option<String>,
    /// What all arms share.
    base: Table,
    /// Name and part of the spec; empty if the spec has no arms of its own.
    arms: Vec<(String, Place, Table)>,
    /// What the scale says of single arms; `None` for one that it leaves out.
    scale_by_arm: BTreeMap<String, Option<Table>>,
    axes: Vec<Axis>,
    sweep_place: Place,
    claims: Vec<ClaimRead>,
    published: Vec<PublishedRead>,
    /// What `--set` says, for all arms and for one.
    set: Table,
    set_by_arm: BTreeMap<String, Table>,
}

/// What has grown out of the arms so far.
struct Grown {
    memory_bytes: Option<u64>,
    arms: Vec<Arm>,
    sets_named: BTreeSet<String>,
}

impl Parts {
    fn take(mut spec: Table, sets: &[String], notes: &Notes<'_>) -> Self {
        let (mut set, set_by_arm) = read_sets(sets, notes);
        // What is said about the study as a whole is laid over here, the rest over each arm.
        let mut about_study = Table::new();
        for key in ["question", "name", "scale", "sweep"] {
            about_study.extend(set.remove_entry(key));
        }
        tree::lay_over(&mut spec, &about_study);
        let scale_by_arm = lay_scale_over(&mut spec, notes);
        // What is set wins over the scale that is set.
        tree::lay_over(&mut spec, &about_study);
        let mut top = Section::new(String::new(), &spec, Place::Default, notes);
        let question = top.text("question").map(str::to_owned);
        let name = top.text("name").map(str::to_owned);
        let arms = top.tables("arm").unwrap_or_default();
        let arms: Vec<_> = arms.into_iter().filter_map(|arm| read_arm(arm, notes)).collect();
        let claims = top.tables("claim").unwrap_or_default();
        let only_arm = match &arms[..] {
            [(name, ..)] => Some(name.as_str()),
            _ => None,
        };
        let claims = claims.into_iter().filter_map(|claim| read_claim(claim, only_arm)).collect();
        let published = top.tables("published").unwrap_or_default();
        let published = published
            .into_iter()
            .filter_map(|published| read_published(published, only_arm))
            .collect();
        let sweep = top.table("sweep");
        let sweep_place = sweep.place();
        let axes = sweep::read_axes(sweep, notes);
        let axes = axes.into_iter().filter_map(|axis| axis.left_open_by(&set)).collect();
        for (idx, (arm, place, _)) in arms.iter().enumerate() {
            if arms.iter().take(idx).any(|(other, ..)| other == arm) {
                let message = format!("found {arm:?} twice; give each arm a name of its own");
                notes.complain(Fault::Together, &format!("arm[{idx}].name"), *place, message);
            }
        }
        for key in TOP {
            spec.remove(key);
        }
        let parts = Self {
            question,
            name,
            base: spec,
            arms,
            scale_by_arm,
            axes,
            sweep_place,
            claims,
            published,
            set,
            set_by_arm,
        };
        parts.note_unknown_arms(notes);
        parts
    }

    /// Complains about `--set arm.NAME`, or the same in a scale, where no arm has the name.
    fn note_unknown_arms(&self, notes: &Notes<'_>) {
        let of_sets = self.set_by_arm.keys().map(|arm| (arm, Place::Set));
        let of_scale = self.scale_by_arm.keys().map(|arm| (arm, Place::Default));
        for (arm, place) in of_sets.chain(of_scale) {
            if self.arms.iter().all(|(name, ..)| name != arm) {
                let names = self.arms.iter().map(|(name, ..)| name.as_str());
                let message = unknown_name("arm", arm, names);
                notes.complain(Fault::Key, &format!("arm.{arm}"), place, message);
            }
        }
    }

    fn study(self, path: Option<&Path>, notes: &Notes<'_>, memory_bytes: Option<u64>) -> Study {
        let points = match sweep::points(&self.axes, self.arms.len()) {
            Ok(points) => points,
            Err(message) => {
                notes.complain(Fault::Together, "sweep", self.sweep_place, message);
                vec![Point { spec: Table::new(), label: String::new() }]
            }
        };
        let mut grown = Grown { memory_bytes, arms: Vec::new(), sets_named: BTreeSet::new() };
        if self.arms.is_empty() {
            self.grow(None, &points, notes, &mut grown);
        } else {
            self.note_mistakes_of_the_base(notes);
        }
        for arm in &self.arms {
            self.grow(Some(arm), &points, notes, &mut grown);
        }
        let Grown { arms, sets_named, .. } = grown;
        note_repeated_plans(&arms, self.sweep_place, notes);
        self.note_misplaced_claims(&arms, &sets_named, notes);
        let arms = arms.into_iter().filter(|arm| !self.leaves_out(&arm.name)).collect::<Vec<_>>();
        if arms.is_empty() {
            let message = "the scale leaves out every arm".to_owned();
            notes.complain(Fault::Together, "scale", Place::Default, message);
        }
        Study {
            question: self.question,
            name: self.name.unwrap_or_else(|| name_of(path)),
            arms,
            claims: self.claims.into_iter().map(|read| read.claim).collect(),
            published: self.published.into_iter().map(|read| read.published).collect(),
        }
    }

    /// Whether the scale has no such arm. It was read like the others, so that what is claimed of it is known to be about
    /// something; at this scale it is not measured.
    fn leaves_out(&self, name: &str) -> bool {
        let of_arm = |arm: &str| {
            let rest = name.strip_prefix(arm);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        };
        self.scale_by_arm.iter().any(|(arm, over)| over.is_none() && of_arm(arm))
    }

    /// Adds the plans of one arm of the spec at every point of the sweep.
    fn grow(
        &self,
        arm: Option<&(String, Place, Table)>,
        points: &[Point],
        notes: &Notes<'_>,
        grown: &mut Grown,
    ) {
        for point in points {
            if notes.n_complaints() >= ENOUGH {
                return;
            }
            let mut spec = self.base.clone();
            if let Some((name, _, over)) = arm {
                tree::lay_over(&mut spec, over);
                if let Some(Some(over)) = self.scale_by_arm.get(name) {
                    tree::lay_over(&mut spec, over);
                }
            }
            tree::lay_over(&mut spec, &point.spec);
            tree::lay_over(&mut spec, &self.set);
            if let Some(over) = arm.and_then(|(name, ..)| self.set_by_arm.get(name)) {
                tree::lay_over(&mut spec, over);
            }
            let PlanRead { plan, sets_named } = read_plan(&spec, notes, grown.memory_bytes);
            grown.sets_named.extend(sets_named);
            let name = match (arm, point.label.as_str()) {
                (Some((name, ..)), "") => name.clone(),
                (Some((name, ..)), label) => format!("{name} {label}"),
                (None, "") => plan.model.name().to_owned(),
                (None, label) => label.to_owned(),
            };
            match grown.arms.iter_mut().find(|arm| arm.name == name) {
                Some(arm) => arm.plans.push(plan),
                None => grown.arms.push(Arm { name, plans: vec![plan] }),
            }
        }
    }

    /// Complains about keys and values of the shared part even where every arm replaces them. What
    /// does not go together there may well do so in each arm.
    fn note_mistakes_of_the_base(&self, notes: &Notes<'_>) {
        let own = Notes::about("", notes.vocabulary(), notes.corpora());
        read_plan(&self.base, &own, None);
        for complaint in own.into_complaints().items() {
            if matches!(complaint.fault, Fault::Key | Fault::Value) {
                notes.push(complaint.clone());
            }
        }
    }

    /// Complains about claims on arms or sets that the study does not have.
    fn note_misplaced_claims(&self, arms: &[Arm], sets: &BTreeSet<String>, notes: &Notes<'_>) {
        // A value decided by `--set` may have taken the arm away; the claim is then unmeasured.
        let arms_may_be_missing = !self.set.is_empty();
        let unnamed = |arm: &str| {
            let names = || arms.iter().map(|arm| arm.name.as_str());
            let misplaced = !arms_may_be_missing && names().all(|name| name != arm);
            misplaced.then(|| unknown_name("arm", arm, names()))
        };
        let together = |path: String, place, message| {
            notes.complain(Fault::Together, &path, place, message);
        };
        for PublishedRead { published, path, arm_place } in &self.published {
            if let Some(message) = unnamed(&published.arm) {
                together(format!("{path}.arm"), *arm_place, message);
            }
        }
        for ClaimRead { claim, path, arm_place, about_place, than_place } in &self.claims {
            if let Some(message) = unnamed(&claim.arm) {
                together(format!("{path}.arm"), *arm_place, message);
            }
            if let Some(message) = claim.than().and_then(unnamed) {
                together(format!("{path}.than"), *than_place, message);
            }
            if claim.than() == Some(&claim.arm) {
                let message = "an arm cannot be compared with itself".to_owned();
                together(format!("{path}.than"), *than_place, message);
            }
            match &claim.about {
                About::Set { set, .. } if !sets.contains(set) => {
                    let message = unknown_name("set", set, sets.iter().map(String::as_str));
                    together(format!("{path}.set"), *about_place, message);
                }
                About::Probe { .. } => {
                    let of_arm = arms.iter().filter(|arm| arm.name == claim.arm);
                    if of_arm.flat_map(|arm| &arm.plans).any(|plan| plan.probe.is_none()) {
                        let message = "nothing is probed of this arm; write [probe]".to_owned();
                        together(format!("{path}.probe"), *about_place, message);
                    }
                }
                About::Set { .. } => {}
            }
        }
    }
}

/// Reads `--set` arguments: what holds for all arms, and what holds for one.
fn read_sets(sets: &[String], notes: &Notes<'_>) -> (Table, BTreeMap<String, Table>) {
    let mut all = Table::new();
    let mut by_arm: BTreeMap<String, Table> = BTreeMap::new();
    for argument in sets {
        let mut set = match tree::parse_set(argument) {
            Ok(set) => set,
            Err(complaint) => {
                notes.push(complaint);
                continue;
            }
        };
        if let Some(entry) = set.remove("arm") {
            match entry.node.value {
                Value::Table(arms) => {
                    for (name, arm) in arms {
                        if let Value::Table(over) = arm.node.value {
                            tree::join(by_arm.entry(name).or_default(), &over);
                        } else {
                            let message = "an arm's path goes on: `arm.NAME.model.n_layers=1`";
                            let path = format!("arm.{name}");
                            notes.complain(Fault::Key, &path, Place::Set, message.to_owned());
                        }
                    }
                }
                _ => {
                    let message = "name the arm: `arm.NAME.model.n_layers=1`".to_owned();
                    notes.complain(Fault::Key, "arm", Place::Set, message);
                }
            }
        }
        for key in ["claim", "published"].into_iter().filter(|key| set.remove(*key).is_some()) {
            let message = "claims stand in the spec; they cannot be set".to_owned();
            notes.complain(Fault::Key, key, Place::Set, message);
        }
        tree::join(&mut all, &set);
    }
    (all, by_arm)
}

/// Reads the name of an arm and leaves its part of the spec.
fn read_arm(mut arm: Section<'_, '_>, notes: &Notes<'_>) -> Option<(String, Place, Table)> {
    let name = arm.text("name").map(str::to_owned);
    let place = arm.place_of("name");
    if name.is_none() && !arm.has("name") {
        let message = "an arm needs a name, such as `name = \"lstm\"`".to_owned();
        arm.complain(Fault::Value, "name", message);
    }
    let mut over = arm.values().clone();
    over.remove("name");
    for key in TOP {
        if let Some(entry) = over.remove(key) {
            let message = format!("`{key}` stands at the top of a spec and not in an arm");
            notes.complain(Fault::Key, &arm.path_of(key), entry.key_place, message);
        }
    }
    Some((name?, place, over))
}

/// What to say about a name that nothing has.
pub(super) fn unknown_name<'a>(
    what: &str,
    name: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> String {
    /// Names that are listed at most: a sweep makes hundreds of arms.
    const MOST: usize = 12;
    match suggest::nearest(name, known.clone()) {
        Some(near) => format!("no {what} is called {name:?}; did you mean {near:?}?"),
        None => match (suggest::listed(known.clone().take(MOST)), known.count()) {
            (_, 0) => format!("no {what} is called {name:?}; there is none"),
            (list, n) if n > MOST => {
                format!("no {what} is called {name:?}; there are {list} and {} more", n - MOST)
            }
            (list, _) => format!("no {what} is called {name:?}; there are {list}"),
        },
    }
}

/// Complains about an arm that would run the same plan twice.
fn note_repeated_plans(arms: &[Arm], sweep_place: Place, notes: &Notes<'_>) {
    for Arm { name, plans } in arms {
        let distinct: BTreeSet<String> = plans.iter().map(Plan::id).collect();
        if distinct.len() < plans.len() {
            let n_repeated = plans.len() - distinct.len();
            let message = format!(
                "{n_repeated} of the {} plans of arm {name:?} are repeated; a swept value is \
                 listed twice, or the arm decides a swept value itself",
                plans.len()
            );
            notes.complain(Fault::Together, "sweep", sweep_place, message);
        }
    }
}

/// The name of a study that says none: of its folder if the file is `study.toml`, else of the file.
fn name_of(path: Option<&Path>) -> String {
    let stem = |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let folder = |path: &Path| {
        path.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned())
    };
    path.and_then(|path| match stem(path) {
        Some(name) if name == "study" => folder(path).or(Some(name)),
        name => name,
    })
    .unwrap_or_else(|| "spec".to_owned())
}
