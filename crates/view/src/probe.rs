//! Where the heads of a model look from the reads of flip-flop strings.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::table::{Align, Table};
use crate::{WIDTH, number, text};

/// What the columns of the first tables mean.
const LOOKED: &str = "Mean share of attention from a read on the bit of the latest write, on bits of earlier \
                      writes that are the same or wrong, on ignores, on the first 8 places and on the \
                      read before. Largest: share of reads whose largest weight, or largest weight \
                      times length of the value, is on the latest write's bit.";
/// What the columns of the last tables mean.
const SHARP: &str = "sigma: the largest singular value of W_Q W_K^T / sqrt(d_head). Bound: what no weight over \
                     all keys can exceed with inputs no longer than those seen; largest: the largest \
                     such weight seen. Apart: least and largest distance of the rows of two heads.";

/// What was probed of a run.
#[derive(Clone, Debug, Deserialize)]
pub struct Reads {
    /// The evaluation set.
    pub set: String,
    /// Examples looked at.
    pub n_examples: u64,
    /// Reads, and those answered right.
    pub answers: Share,
    /// Head by head.
    pub heads: Vec<Head>,
    /// Layer by layer.
    pub layers: Vec<Layer>,
}

/// How many of a number of things are as they should be.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Share {
    /// As they should be.
    pub n_right: u64,
    /// All.
    pub n: u64,
}

/// One head.
#[derive(Clone, Debug, Deserialize)]
pub struct Head {
    /// Layer, from 0.
    pub layer: u64,
    /// Head, from 0.
    pub head: u64,
    /// At reads answered right.
    pub right: Option<Looked>,
    /// At reads answered wrong.
    pub wrong: Option<Looked>,
    /// Largest singular value of its scores.
    pub sigma: f64,
    /// Largest weight over all keys.
    pub largest_weight: f64,
    /// What such a weight cannot exceed.
    pub bound: Option<f64>,
    /// Of linear positions: what queries and keys make of a place, multiplied.
    #[serde(default)]
    pub w_qp_w_kp: Option<f64>,
}

/// Mean masses over reads.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the page says what each is")]
pub struct Looked {
    pub latest: f64,
    pub same_writes: f64,
    pub wrong_writes: f64,
    pub ignores: f64,
    pub first_8: f64,
    pub previous_read: f64,
    pub max_on_latest: Share,
    pub max_value_on_latest: Share,
}

/// One layer.
#[derive(Clone, Debug, Deserialize)]
pub struct Layer {
    /// Layer, from 0.
    pub layer: u64,
    /// The longest input of its attention.
    pub longest_input: f64,
    /// Between each pair of heads.
    pub head_distances: Vec<Vec<f64>>,
    /// Frobenius norms by the matrix.
    pub norms: BTreeMap<String, f64>,
}

/// A page about what was probed.
#[must_use]
pub fn page(run: &str, reads: &Reads) -> String {
    let Share { n_right, n } = reads.answers;
    let examples = number::counted(reads.n_examples, "example", "examples");
    let mut page = format!("Run {run}, heads at the reads of {examples} of {}\n", reads.set);
    for (word, n, pick) in [
        ("right", n_right, (|head| head.right.as_ref()) as fn(&Head) -> Option<&Looked>),
        ("wrong", n - n_right, |head| head.wrong.as_ref()),
    ] {
        page += &format!("\nAnswered {word}: {}\n", number::counted(n, "read", "reads"));
        if n > 0 {
            page += &looked(&reads.heads, pick).to_string();
        }
    }
    page += "\n";
    page += &text::wrap(LOOKED, WIDTH, "");
    page += "\n";
    page += &sharpness(reads).to_string();
    page += "\n";
    page += &text::wrap(SHARP, WIDTH, "");
    let products: Vec<String> = reads
        .heads
        .iter()
        .filter_map(|head| Some((name(head), head.w_qp_w_kp?)))
        .map(|(name, product)| format!("{name} {product:.3e}"))
        .collect();
    if !products.is_empty() {
        page += "\nW_Qp . W_Kp, which has to be 0 for a hard head that is right at every length\n";
        page += &text::wrap(&products.join(", "), WIDTH, "  ");
    }
    page += "\nFrobenius norms\n";
    for layer in &reads.layers {
        let norm =
            |(name, norm): (&String, &f64)| format!("{name} {}", number::significant(*norm, 3));
        let norms: Vec<String> = layer.norms.iter().map(norm).collect();
        page += &text::wrap(&format!("layer {}: {}", layer.layer, norms.join(", ")), WIDTH, "  ");
    }
    page
}

fn name(head: &Head) -> String {
    format!("{}.{}", head.layer, head.head)
}

fn looked(heads: &[Head], pick: fn(&Head) -> Option<&Looked>) -> Table {
    let right = Align::Right;
    let mut table = Table::new(&[
        ("head", Align::Left),
        ("latest", right),
        ("same", right),
        ("wrong", right),
        ("ignores", right),
        ("first 8", right),
        ("read before", right),
        ("largest", right),
        ("by value", right),
    ]);
    for head in heads {
        let Some(looked) = pick(head) else { continue };
        let masses = [
            looked.latest,
            looked.same_writes,
            looked.wrong_writes,
            looked.ignores,
            looked.first_8,
            looked.previous_read,
        ];
        let share = |share: Share| share.n_right as f64 / share.n.max(1) as f64;
        let shares = [share(looked.max_on_latest), share(looked.max_value_on_latest)];
        let numbers = masses.into_iter().chain(shares).map(|number| format!("{number:.3}"));
        table.row(std::iter::once(name(head)).chain(numbers));
    }
    table
}

fn sharpness(reads: &Reads) -> Table {
    let right = Align::Right;
    let mut table = Table::new(&[
        ("head", Align::Left),
        ("sigma", right),
        ("longest input", right),
        ("bound", right),
        ("largest", right),
        ("apart", Align::Left),
    ]);
    for head in &reads.heads {
        let Some(layer) = reads.layers.iter().find(|layer| layer.layer == head.layer) else {
            continue;
        };
        table.row([
            name(head),
            number::significant(head.sigma, 3),
            number::significant(layer.longest_input, 3),
            head.bound.map_or_else(|| "-".to_owned(), near_one),
            format!("{:.3}", head.largest_weight),
            apart(layer, head.head),
        ]);
    }
    table
}

/// A bound to three decimals, or how little is missing to 1.
fn near_one(bound: f64) -> String {
    let missing = 1.0 - bound;
    match missing {
        0.0 => "1".to_owned(),
        missing if missing < 5e-4 => format!("1 - {missing:.0e}"),
        _ => format!("{bound:.3}"),
    }
}

/// The least and the largest distance of a head from another one of its layer.
fn apart(layer: &Layer, head: u64) -> String {
    let row = usize::try_from(head).ok().and_then(|head| layer.head_distances.get(head));
    let others = row.into_iter().flatten().zip(0..).filter(|&(_, other)| other != head);
    let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
    for (&distance, _) in others {
        (least, most) = (least.min(distance), most.max(distance));
    }
    if least > most { "-".to_owned() } else { format!("{least:.3} to {most:.3}") }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::text::assert_fits;

    #[test]
    fn heads_at_reads_fit_a_page() {
        let looked = |latest: f64, n: u64| {
            json!({
                "latest": latest, "same_writes": 0.1, "wrong_writes": 0.05, "ignores": 0.02,
                "first_8": 0.4, "previous_read": 0.001,
                "max_on_latest": {"n_right": n / 2, "n": n}, "max_value_on_latest": {"n_right": n, "n": n},
            })
        };
        let head = |head: u64, bound: Value| {
            json!({
                "layer": 0, "head": head, "right": looked(0.8, 264), "wrong": looked(0.0002, 3),
                "sigma": 1.25, "largest_weight": 0.997, "bound": bound, "w_qp_w_kp": -0.25,
            })
        };
        let stored = json!({
            "set": "val_sparse", "n_examples": 64, "answers": {"n_right": 264, "n": 267},
            "heads": [head(0, json!(0.999)), head(1, Value::Null), head(2, json!(0.999_997))],
            "layers": [{
                "layer": 0, "longest_input": 22.6, "head_distances": [[0.0, 0.75, 0.5], [0.75, 0.0, 0.25], [0.5, 0.25, 0.0]],
                "norms": {"w_q": 13.0, "w_k": 12.0, "w_v": 11.0, "w_c": 10.0, "mlp.up": 20.0, "mlp.down": 19.0},
            }],
        });
        let page = page("3f2a", &Reads::deserialize(&stored).unwrap());
        assert_fits(&page);
        insta::assert_snapshot!(page);
    }
}
