//! The page of one run: what it is, what it measured, how it got there, and what is damaged.

use mnemoscope_store::{Error, RunReader};
use serde_json::{Value, json};
use std::collections::BTreeMap;

use crate::number;
use crate::plan::corpus_words;
use crate::result::{RunResult, SetResult, common, interval_heading};
use crate::runs::date_of;
use crate::sparkline;
use crate::table::{Align, Table};
use crate::text;

/// A run as its record tells it.
#[derive(Clone, Debug)]
pub struct RunPage {
    /// Id of the run.
    pub id: String,
    /// How it stands.
    pub status: String,
    /// Where its record lies.
    pub path: String,
    /// The format of the record.
    pub format: String,
    /// When it first began, in seconds since 1970.
    pub created_secs: Option<f64>,
    /// The plan.
    pub plan: Value,
    /// What was given besides the plan: study, arm, machine, version.
    pub meta: Value,
    /// The result as it is stored, if there is one.
    pub stored_result: Option<Value>,
    /// The same, read; or why it cannot be.
    pub result: Option<Result<RunResult, String>>,
    /// Learning curves by set, superseded points left out.
    pub curves: BTreeMap<String, Vec<CurvePoint>>,
    /// Losses, superseded ones left out.
    pub losses: Vec<(u64, f64)>,
    /// Steps of the checkpoints that are kept.
    pub checkpoint_steps: Vec<u64>,
    /// Names of the glitch files.
    pub glitches: Vec<String>,
    /// Why it failed or crashed.
    pub message: Option<String>,
    /// What is torn or damaged.
    pub problems: Vec<String>,
}

/// A point of a learning curve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurvePoint {
    /// Steps taken.
    pub step: u64,
    /// Scored targets looked at.
    pub n_trials: u64,
    /// Wrong answers among them.
    pub n_errors: u64,
}

impl RunPage {
    /// Reads what the page shows.
    ///
    /// # Errors
    ///
    /// [`mnemoscope_store::ErrorKind::Io`] if the glitches cannot be listed.
    pub fn read(run: &RunReader) -> Result<Self, Error> {
        let events = run.events();
        let mut curves: BTreeMap<String, Vec<CurvePoint>> = BTreeMap::new();
        for event in events.of_kind("curve") {
            if let Some((set, point)) = curve_point(&event.data) {
                curves.entry(set).or_default().push(point);
            }
        }
        let loss = |data: &Value| Some((data["step"].as_u64()?, data["loss_nats"].as_f64()?));
        let torn = events.torn.map(|torn| {
            format!(
                "events.jsonl ends inside event {}; the {} before it are intact",
                torn.event_idx,
                number::counted(events.items.len() as u64, "event", "events"),
            )
        });
        Ok(Self {
            id: run.id().to_owned(),
            status: run.status().to_string(),
            path: run.path().display().to_string(),
            format: run.format().to_string(),
            created_secs: run.created_secs(),
            plan: run.plan().clone(),
            meta: run.meta().clone(),
            stored_result: run.result().cloned(),
            result: run.result().map(RunResult::from_json),
            losses: events.of_kind("loss").filter_map(|event| loss(&event.data)).collect(),
            curves,
            checkpoint_steps: run.checkpoints().iter().map(|checkpoint| checkpoint.step).collect(),
            glitches: run.names("glitches")?,
            message: run.message().map(str::to_owned),
            problems: torn.into_iter().collect(),
        })
    }

    /// The run as JSON: its result as it is stored, and what the page shows besides.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut page = match &self.stored_result {
            Some(Value::Object(result)) => result.clone(),
            _ => serde_json::Map::new(),
        };
        let curves: BTreeMap<&str, Vec<Value>> = self
            .curves
            .iter()
            .map(|(set, points)| (set.as_str(), points.iter().map(CurvePoint::to_json).collect()))
            .collect();
        let besides = json!({
            "run": self.id,
            "plan": self.id,
            "status": self.status,
            "path": self.path,
            "format": self.format,
            "created_secs": self.created_secs,
            "study": self.meta["study"],
            "arm": self.meta["arm"],
            "resolved_plan": self.plan,
            "curves": curves,
            "checkpoint_steps": self.checkpoint_steps,
            "glitches": self.glitches,
            "message": self.message,
            "problems": self.problems,
        });
        if let Value::Object(besides) = besides {
            for (key, value) in besides {
                page.entry(key).or_insert(value);
            }
        }
        Value::Object(page)
    }

    /// The page for people.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut page = format!("Run {}\n", self.id);
        page += &text::facts(&self.facts());
        if let Some(Ok(result)) = &self.result {
            page += &measurements(&result.eval, &self.plan["task"]);
        }
        page += &self.curve_lines();
        page += &self.glitch_lines();
        let unreadable = self.result.iter().filter_map(|result| result.as_ref().err());
        let problems: Vec<&String> = self.problems.iter().chain(unreadable).collect();
        for (idx, problem) in problems.into_iter().enumerate() {
            page += if idx == 0 { "\nDamage\n" } else { "" };
            page += &text::wrap(problem, crate::WIDTH, "  ");
        }
        page
    }

    pub(crate) fn facts(&self) -> Vec<(&'static str, String)> {
        let word = |key: &str| self.meta[key].as_str().map(str::to_owned);
        let mut facts = vec![("status", self.status.clone())];
        facts.extend(self.message.clone().map(|message| ("because", message)));
        facts.extend(word("study").map(|study| ("study", study)));
        facts.extend(word("arm").map(|arm| ("arm", arm)));
        facts.extend(self.created_secs.map(|secs| ("created", date_of(secs))));
        facts.extend([("task", task_words(&self.plan["task"]))]);
        facts.extend([("model", self.model_words())]);
        facts.extend([("training", self.training_words())]);
        if self.status != "sealed" {
            let steps: Vec<String> = self.checkpoint_steps.iter().map(u64::to_string).collect();
            let steps = if steps.is_empty() { "none".to_owned() } else { steps.join(", ") };
            facts.push(("checkpoints", format!("at step {steps}")));
        }
        if let Some(Ok(RunResult { checkpoint: Some(checkpoint), .. })) = &self.result {
            let hash = text::cut(&checkpoint.blake3, 17);
            facts.push(("checkpoint", format!("step {}, blake3 {hash}", checkpoint.step)));
        }
        let version = word("version").map_or_else(String::new, |version| format!(", by {version}"));
        facts.push(("record", format!("{} (format {}{version})", self.path, self.format)));
        facts
    }

    fn model_words(&self) -> String {
        let name = self.plan["model"]["name"].as_str().unwrap_or("unknown").to_owned();
        match &self.result {
            Some(Ok(RunResult { model: Some(model), .. })) => {
                let n_params = model.n_params.map(|n| format!(", {} parameters", number::count(n)));
                name + n_params.as_deref().unwrap_or_default()
            }
            _ => name,
        }
    }

    fn training_words(&self) -> String {
        let n_steps = self.plan["train"]["n_steps"].as_u64().unwrap_or(0);
        let mut words = number::counted(n_steps, "step", "steps");
        if let Some(Ok(RunResult { train: Some(train), .. })) = &self.result {
            let secs = train.wall_secs.map(|secs| format!(" in {}", number::secs(secs)));
            words += secs.as_deref().unwrap_or_default();
            let speed = train.tokens_per_sec.filter(|speed| *speed > 0.0);
            let speed = speed.map(|speed| format!(", {}", number::quantity(speed, "tokens/s")));
            words += speed.as_deref().unwrap_or_default();
        }
        if let Some((step, loss)) = self.losses.last() {
            words += &format!("; loss {} nats at step {step}", number::rate(*loss));
        }
        words
    }

    fn curve_lines(&self) -> String {
        if self.curves.is_empty() {
            return String::new();
        }
        let mut page = "\nError rate while training\n".to_owned();
        let width = self.curves.keys().map(|set| set.chars().count()).max().unwrap_or(0);
        for (set, points) in &self.curves {
            let rates: Vec<f64> = points.iter().map(CurvePoint::rate).collect();
            let line = sparkline::log_rates(&rates, 40);
            let Some(last) = points.last() else { continue };
            page += &format!(
                "  {set:<width$}  {line}  {} of {} at step {}\n",
                number::count(last.n_errors),
                number::count(last.n_trials),
                last.step,
            );
        }
        page += &format!("  {}\n", sparkline::LOG_LEGEND);
        page
    }

    fn glitch_lines(&self) -> String {
        const MOST: usize = 5;
        if self.glitches.is_empty() {
            return String::new();
        }
        let mut page = format!("\nGlitches kept: {}\n", self.glitches.len());
        for (idx, name) in self.glitches.iter().take(MOST).enumerate() {
            page += &format!("  {idx}  {name}\n");
        }
        if self.glitches.len() > MOST {
            page += &format!("  …  {} more\n", self.glitches.len() - MOST);
        }
        page += &format!("  see one with `mnemoscope replay {}:0`\n", self.id);
        page
    }
}

impl CurvePoint {
    fn rate(&self) -> f64 {
        number::to_f64(self.n_errors) / number::to_f64(self.n_trials.max(1))
    }

    fn to_json(&self) -> Value {
        json!({"step": self.step, "n_trials": self.n_trials, "n_errors": self.n_errors})
    }
}

fn curve_point(data: &Value) -> Option<(String, CurvePoint)> {
    let point = CurvePoint {
        step: data["step"].as_u64()?,
        n_trials: data["n_trials"].as_u64()?,
        n_errors: data["n_errors"].as_u64()?,
    };
    Some((data["set"].as_str()?.to_owned(), point))
}

/// A language in a line: `flipflop, p_ignore 0.8, 512 tokens, 2 symbols`, or `bigram, 5 random
/// triggers, uniform outputs, 256 positions, tiny-shakespeare`.
fn task_words(task: &Value) -> String {
    let mut words = vec![task["name"].as_str().unwrap_or("unknown").to_owned()];
    if is_bigram(task) {
        let word = |key: &str| task[key].as_str().unwrap_or_default();
        let n = task["n_triggers"].as_u64().unwrap_or(0);
        words.push(format!("{n} {} trigger{}", word("triggers"), if n == 1 { "" } else { "s" }));
        words.push(format!("{} outputs", word("outputs")));
        words.extend(task["seq_len"].as_u64().map(|n| format!("{n} positions")));
        words.extend(corpus_words(&task["corpus"]));
        return words.join(", ");
    }
    words.extend(task["p_ignore"].as_f64().map(|p| format!("p_ignore {p}")));
    words.extend(task["seq_len"].as_u64().map(|n| format!("{n} tokens")));
    words.extend(task["n_symbols"].as_u64().map(|n| format!("{n} symbols")));
    words.extend(task["coding"].as_str().map(|coding| format!("in {coding}")));
    words.extend(task["parts"].as_array().map(|parts| format!("{} parts", parts.len())));
    words.join(", ")
}

/// Whether a plan's task is the bigram language, in which every token is data.
fn is_bigram(task: &Value) -> bool {
    task["name"] == "bigram"
}

/// Both tables of an evaluation, by set: the counts with their intervals, and what makes them
/// less certain.
///
/// # Arguments
///
/// - `task`: that of the plan. In the bigram language every token is data, so an answer among the
///   data symbols is the answer, and nothing is said of it.
#[must_use]
pub fn measurements(eval: &BTreeMap<String, SetResult>, task: &Value) -> String {
    if eval.is_empty() {
        return String::new();
    }
    let mut page = format!("\nMeasured\n{}", reads_table(eval));
    page += &text::wrap(&methods(eval), crate::WIDTH, "  ");
    if eval.values().any(|set| set.cluster_interval.is_some()) {
        page +=
            &format!("\nTrials of one example are not independent\n{}", doubts_table(eval, task));
        if !is_bigram(task) {
            page += "  A two-way answer is taken among the data symbols only.\n";
        }
    }
    page
}

/// Counts, rates and intervals, by set.
#[must_use]
pub fn reads_table(eval: &BTreeMap<String, SetResult>) -> Table {
    let heading = interval_heading(common(eval.values().map(|set| set.confidence)));
    let mut table = Table::new(&[
        ("set", Align::Left),
        ("examples", Align::Right),
        ("trials", Align::Right),
        ("errors", Align::Right),
        ("rate", Align::Right),
        (&heading, Align::Left),
    ]);
    for (name, set) in eval {
        table.row([
            name.clone(),
            number::count(set.n_examples),
            number::count(set.n_trials),
            number::count(set.n_errors),
            set.error_rate.map_or_else(|| "-".to_owned(), number::rate),
            number::interval(set.interval),
        ]);
    }
    table
}

/// What makes the counts less certain, by set.
pub(crate) fn doubts_table(eval: &BTreeMap<String, SetResult>, task: &Value) -> Table {
    let n_columns = if is_bigram(task) { 3 } else { 4 };
    let columns = [
        ("set", Align::Left),
        ("examples with errors", Align::Right),
        ("interval over examples", Align::Left),
        ("two-way errors", Align::Right),
    ];
    let mut table = Table::new(&columns[..n_columns]);
    let or_dash = |cell: Option<String>| cell.unwrap_or_else(|| "-".to_owned());
    for (name, set) in eval {
        let cells = [
            name.clone(),
            or_dash(set.n_clusters_with_errors.map(number::count)),
            or_dash(set.cluster_interval.map(number::interval)),
            or_dash(set.two_way.as_ref().map(|two| number::count(two.n_errors))),
        ];
        table.row(cells.into_iter().take(n_columns));
    }
    table
}

/// How the intervals were made, each method once.
pub(crate) fn methods(eval: &BTreeMap<String, SetResult>) -> String {
    let named = |pick: fn(&SetResult) -> Option<&String>| {
        let mut names: Vec<&str> = eval.values().filter_map(pick).map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        names.join(", ")
    };
    let (exact, clustered) =
        (named(|set| set.method.as_ref()), named(|set| set.cluster_method.as_ref()));
    match (exact.as_str(), clustered.as_str()) {
        ("", "") => String::new(),
        (exact, "") => format!("interval: {exact}"),
        (exact, clustered) => format!("interval: {exact}; over examples: {clustered}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests::result;
    use crate::text::assert_fits;

    fn page(errors: [u64; 3]) -> RunPage {
        let result = result("0123456789abcdef", "lstm", errors);
        let curve = |rates: &[u64]| {
            let point = |(idx, &n_errors): (usize, &u64)| CurvePoint {
                step: (idx as u64 + 1) * 100,
                n_trials: 26_508,
                n_errors,
            };
            rates.iter().enumerate().map(point).collect::<Vec<_>>()
        };
        RunPage {
            id: "0123456789abcdef".to_owned(),
            status: "sealed".to_owned(),
            path: "./runs/0123456789abcdef".to_owned(),
            format: "1.0".to_owned(),
            created_secs: Some(1_790_000_000.0),
            plan: json!({
                "task": {"name": "flipflop", "p_ignore": 0.8, "seq_len": 512, "n_symbols": 2},
                "model": {"name": "lstm"}, "train": {"n_steps": 500},
            }),
            meta: json!({"study": "lstm-vs-transformer", "arm": "lstm", "version": "0.1.0"}),
            stored_result: Some(serde_json::to_value(&result).unwrap()),
            result: Some(Ok(result)),
            curves: BTreeMap::from([
                ("val".to_owned(), curve(&[13_200, 9000, 400, 2, 0])),
                ("val_sparse".to_owned(), curve(&[13_200, 12_000, 5000, 700, 31])),
            ]),
            losses: vec![(490, 0.002), (500, 0.001_25)],
            checkpoint_steps: vec![500],
            glitches: (0..7).map(|n| format!("glitches/val_sparse-{n:09}-0350.json")).collect(),
            message: None,
            problems: Vec::new(),
        }
    }

    #[test]
    fn a_sealed_run() {
        let text = page([0, 12, 0]).to_text();
        assert_fits(&text);
        insta::assert_snapshot!(text);
    }

    #[test]
    fn an_interrupted_run_with_a_torn_tail() {
        let mut page = page([0, 0, 0]);
        page.status = "interrupted".to_owned();
        page.result = None;
        page.stored_result = None;
        page.checkpoint_steps = vec![300, 400];
        page.glitches.clear();
        page.problems = vec![
            "events.jsonl ends inside event 57; the 57 events before it are intact".to_owned(),
        ];
        let text = page.to_text();
        assert_fits(&text);
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_run_on_bigrams_speaks_of_triggers_and_of_no_data_symbols() {
        let mut page = page([0, 12, 0]);
        page.plan["task"] = json!({
            "name": "bigram", "corpus": "tiny-shakespeare", "seq_len": 256, "triggers": "random",
            "n_triggers": 5, "offset": 0, "outputs": "uniform", "output_split": "all",
        });
        let text = page.to_text();
        assert_fits(&text);
        assert!(
            text.contains("bigram, 5 random triggers, uniform outputs, 256 positions"),
            "{text}"
        );
        assert!(!text.contains("two-way") && !text.contains("symbol"), "{text}");
        assert!(text.contains("examples with errors"), "{text}");
        page.plan["task"]["corpus"] =
            json!({"characters": "ab", "successors": [[[1, 3]], [[0, 2], [1, 1]]], "last": 1});
        let text = page.to_text();
        let words: Vec<&str> = text.split_whitespace().collect();
        assert!(
            words.join(" ").contains("positions, a text of 7 characters, 2 distinct"),
            "{text}"
        );
    }

    #[test]
    fn json_holds_the_stored_result_unchanged() {
        let page = page([0, 12, 0]);
        let json = page.to_json();
        let stored = page.stored_result.unwrap();
        for key in ["run", "plan", "status", "train", "model", "eval", "checkpoint"] {
            assert_eq!(json[key], stored[key], "{key}");
        }
        assert_eq!(json["curves"]["val"][4]["n_errors"], 0);
        assert_eq!(json["path"], "./runs/0123456789abcdef");
    }

    #[test]
    fn a_result_that_cannot_be_read_is_damage_and_not_silence() {
        let mut page = page([0, 0, 0]);
        page.result = Some(RunResult::from_json(&json!({"run": 3})));
        let text = page.to_text();
        assert!(text.contains("Damage\n  the result is not readable: invalid type"), "{text}");
    }
}
