//! Resolved plans before they are run: what each costs, what they share and where they differ.

use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

use crate::number;
use crate::table::{Align, Table};
use crate::{WIDTH, text};

/// A plan with what it will take.
#[derive(Clone, Debug, Serialize)]
pub struct PlanCard {
    /// Id of the plan, and of the run it becomes.
    pub id: String,
    /// The arm it belongs to.
    pub arm: String,
    /// What distinguishes it within its arm.
    pub seed: u64,
    /// Numbers it learns.
    pub n_params: Option<u64>,
    /// What it will take; none if 64 bits cannot count it.
    pub cost: Option<Cost>,
    /// The plan itself, every field present.
    pub plan: Value,
}

/// What a plan will take; estimates.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cost {
    /// Tokens the model is trained on.
    pub train_tokens: u64,
    /// Tokens of the final evaluation.
    pub eval_tokens: u64,
    /// Floating-point operations, training and evaluation together.
    pub flops: f64,
    /// Memory at its fullest.
    pub peak_bytes: u64,
}

/// The page of plans: what to be warned of, a table of their cost, then every field once.
#[must_use]
pub fn page(name: &str, question: Option<&str>, warnings: &[String], plans: &[PlanCard]) -> String {
    let mut page = format!("{name}\n");
    if let Some(question) = question {
        page += &text::wrap(question, WIDTH, "  ");
    }
    for warning in warnings {
        page += &text::wrap(&format!("warning: {warning}"), WIDTH, "  ");
    }
    page += "\n";
    page += &cost_table(plans).to_string();
    if plans.len() > 1 {
        page += &total_line(plans);
    }
    let fields: Vec<BTreeMap<String, String>> =
        plans.iter().map(|card| flatten(&card.plan)).collect();
    let everywhere = shared(&fields);
    page += if plans.len() > 1 { "\nIn every plan\n" } else { "\nThe plan\n" };
    page += &field_lines(&everywhere);
    for (arm, idxs) in by_arm(plans) {
        let of_arm: Vec<_> = idxs.iter().map(|&idx| fields[idx].clone()).collect();
        let mut own = shared(&of_arm);
        own.retain(|path, _| !everywhere.contains_key(path));
        if !own.is_empty() && plans.len() > 1 {
            page += &format!("\nIn arm {arm}\n{}", field_lines(&own));
        }
    }
    page
}

fn cost_table(plans: &[PlanCard]) -> Table {
    let mut table = Table::new(&[
        ("plan", Align::Left),
        ("arm", Align::Wrapped),
        ("seed", Align::Right),
        ("params", Align::Right),
        ("tokens", Align::Right),
        ("work", Align::Right),
        ("memory", Align::Right),
    ]);
    let or_dash = |cell: Option<String>| cell.unwrap_or_else(|| "-".to_owned());
    for card in plans {
        table.row([
            card.id.clone(),
            card.arm.clone(),
            card.seed.to_string(),
            or_dash(card.n_params.map(number::count)),
            or_dash(card.cost.map(|cost| tokens(cost.tokens()))),
            or_dash(card.cost.map(|cost| number::quantity(cost.flops, "FLOP"))),
            or_dash(card.cost.map(|cost| number::bytes(cost.peak_bytes))),
        ]);
    }
    table
}

impl Cost {
    fn tokens(&self) -> u64 {
        self.train_tokens.saturating_add(self.eval_tokens)
    }
}

fn tokens(n: u64) -> String {
    number::quantity(number::to_f64(n), "").trim_end().to_owned()
}

fn total_line(plans: &[PlanCard]) -> String {
    let costs = || plans.iter().filter_map(|card| card.cost.as_ref());
    let n_tokens = costs().map(Cost::tokens).fold(0, u64::saturating_add);
    let flops: f64 = costs().map(|cost| cost.flops).sum();
    format!(
        "\n  {}: {} tokens, {}\n",
        number::counted(plans.len() as u64, "plan", "plans"),
        tokens(n_tokens),
        number::quantity(flops, "FLOP"),
    )
}

/// The arms in the order of their first plan, each with the places of its plans.
fn by_arm(plans: &[PlanCard]) -> Vec<(&str, Vec<usize>)> {
    let mut arms: Vec<(&str, Vec<usize>)> = Vec::new();
    for (idx, card) in plans.iter().enumerate() {
        match arms.iter_mut().find(|(arm, _)| *arm == card.arm) {
            Some((_, idxs)) => idxs.push(idx),
            None => arms.push((&card.arm, vec![idx])),
        }
    }
    arms
}

/// The fields that all have, with the same value.
fn shared(plans: &[BTreeMap<String, String>]) -> BTreeMap<String, String> {
    let Some((first, others)) = plans.split_first() else { return BTreeMap::new() };
    let agreed = |path: &String, value: &String| {
        others.iter().all(|other| other.get(path).is_some_and(|its| its == value))
    };
    first
        .iter()
        .filter(|(path, value)| agreed(path, value))
        .map(|(p, v)| (p.clone(), v.clone()))
        .collect()
}

fn field_lines(fields: &BTreeMap<String, String>) -> String {
    let pairs: Vec<(&str, String)> =
        fields.iter().map(|(path, value)| (path.as_str(), value.clone())).collect();
    text::facts(&pairs)
}

/// A corpus in a few words: its name, or the sizes of the text whose counts stand there.
pub(crate) fn corpus_words(corpus: &Value) -> Option<String> {
    if let Some(name) = corpus.as_str() {
        return Some(name.to_owned());
    }
    let n_distinct = corpus["characters"].as_str()?.chars().count() as u64;
    let rows = corpus["successors"].as_array()?;
    let pairs = rows.iter().filter_map(Value::as_array).flatten();
    // One character more than there are pairs of neighbours.
    let n_characters = 1 + pairs.filter_map(|pair| pair[1].as_u64()).sum::<u64>();
    Some(format!(
        "a text of {} characters, {} distinct",
        number::count(n_characters),
        number::count(n_distinct)
    ))
}

/// Every leaf of a JSON value under its path: `train.n_steps`. The counts of a text are one leaf.
fn flatten(value: &Value) -> BTreeMap<String, String> {
    fn visit(value: &Value, path: &str, leaves: &mut BTreeMap<String, String>) {
        match value {
            Value::Object(members) if members.contains_key("successors") => {
                let words = corpus_words(value).unwrap_or_else(|| value.to_string());
                leaves.insert(path.to_owned(), words);
            }
            Value::Object(members) if !members.is_empty() => {
                for (key, member) in members {
                    let dot = if path.is_empty() { "" } else { "." };
                    visit(member, &format!("{path}{dot}{key}"), leaves);
                }
            }
            Value::String(text) => {
                leaves.insert(path.to_owned(), text.clone());
            }
            Value::Null => {
                leaves.insert(path.to_owned(), "none".to_owned());
            }
            other => {
                leaves.insert(path.to_owned(), other.to_string());
            }
        }
    }
    let mut leaves = BTreeMap::new();
    visit(value, "", &mut leaves);
    leaves
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::assert_fits;
    use serde_json::json;

    fn card(id: &str, arm: &str, seed: u64, model: &Value) -> PlanCard {
        PlanCard {
            id: id.to_owned(),
            arm: arm.to_owned(),
            seed,
            n_params: Some(133_381),
            cost: Some(Cost {
                train_tokens: 4_096_000,
                eval_tokens: 53_248_000,
                flops: 4.6e13,
                peak_bytes: 130 << 20,
            }),
            plan: json!({
                "model": model, "seeds": {"data": seed, "eval": 0},
                "train": {"n_steps": 500, "optimizer": {"lr": 3e-4, "clip_norm": null}},
            }),
        }
    }

    #[test]
    fn fields_are_said_once_and_differences_by_arm() {
        let lstm = json!({"name": "lstm", "d_model": 128});
        let transformer = json!({"name": "transformer", "d_model": 128, "n_heads": 4});
        let plans = [
            card("0123456789abcdef", "lstm", 0, &lstm),
            card("123456789abcdef0", "lstm", 1, &lstm),
            card("23456789abcdef01", "transformer", 0, &transformer),
        ];
        let page = page("lstm-vs-transformer", Some("Which one errs?"), &[], &plans);
        assert_fits(&page);
        insta::assert_snapshot!(page);
    }

    #[test]
    fn the_counts_of_a_text_are_said_in_a_line() {
        let corpus =
            json!({"characters": "ab", "successors": [[[1, 30_000]], [[0, 2], [1, 1]]], "last": 1});
        let leaves = flatten(&json!({"task": {"corpus": corpus, "seq_len": 8}}));
        assert_eq!(leaves["task.corpus"], "a text of 30\u{2009}004 characters, 2 distinct");
        assert_eq!(leaves.len(), 2);
        let named = flatten(&json!({"task": {"corpus": "tiny-shakespeare"}}));
        assert_eq!(named["task.corpus"], "tiny-shakespeare");
    }

    #[test]
    fn a_single_plan_shows_all_of_itself() {
        let page = page(
            "plan",
            None,
            &["arms differ".to_owned()],
            &[card("0123456789abcdef", "-", 7, &json!({"name": "lstm"}))],
        );
        assert_fits(&page);
        for field in ["model.name", "seeds.data", "train.optimizer.clip_norm  none"] {
            assert!(page.contains(field), "{field}: {page}");
        }
        assert!(!page.contains("In arm"), "{page}");
        assert!(page.starts_with("plan\n  warning: arms differ\n"), "{page}");
    }
}
