//! The tables of a spec, one file each: what may stand in them, and what it is when left out.
//!
//! The defaults are those of Liu et al. 2023, arXiv:2306.00946, appendix B.2.

mod bigram;
mod claim;
mod eval;
mod freeze;
mod model;
mod task;
mod train;

use std::collections::BTreeSet;

pub(super) use claim::{ClaimRead, PublishedRead, read_claim, read_published};

use super::check::Problem;
use super::complaint::{Fault, Place};
use super::estimate::bytes_for_people;
use super::reader::{Notes, Section};
use super::tree::{self, Table};
use super::types::{Plan, Seeds};
use crate::probe::ProbePlan;

/// What stands at the top of a spec and is not part of a plan.
pub(crate) const TOP: [&str; 8] =
    ["question", "name", "scale", "scales", "arm", "sweep", "claim", "published"];

/// A plan as a spec describes it, and the names of its evaluation sets.
#[derive(Debug)]
pub(crate) struct PlanRead {
    pub(crate) plan: Plan,
    /// Also those that are left out by `n_examples = 0`.
    pub(crate) sets_named: BTreeSet<String>,
}

/// Reads a plan from a spec without arms and sweeps; whatever is wrong is noted, and read as its
/// default.
pub(crate) fn read_plan<'n>(
    table: &Table,
    notes: &'n Notes<'n>,
    memory_bytes: Option<u64>,
) -> PlanRead {
    let mut top = Section::new(String::new(), table, Place::Default, notes);
    for key in TOP {
        top.know(key);
    }
    let seed = top.whole("seed", 0, 0..=u64::MAX);
    let seeds = Seeds {
        data: top.whole("data_seed", seed, 0..=u64::MAX),
        model: top.whole("model_seed", seed, 0..=u64::MAX),
        eval: top.whole("eval_seed", 0, 0..=u64::MAX),
    };
    let task = task::read_train_task(top.table("task"));
    let (mut train, freezing) = train::read(top.table("train"));
    let (eval, sets_named) = eval::read(top.table("eval"), &task);
    let model = model::read(top.table("model"), &task, &eval);
    let probe = read_probe(&mut top);
    top.finish();
    train.freeze = freezing.of(&model, notes);
    let plan = Plan { format: Plan::FORMAT, task, model, train, eval, probe, seeds };
    let problems = plan.check();
    if problems.is_empty() {
        note_memory(&plan, table, notes, memory_bytes);
    }
    note_problems(problems, table, notes);
    PlanRead { plan, sets_named }
}

/// `[probe]`: nothing is probed unless the table is there.
fn read_probe(top: &mut Section<'_, '_>) -> Option<ProbePlan> {
    let wanted = top.has("probe");
    let mut section = top.table("probe");
    let plan = ProbePlan {
        every: section.whole("every", 5, 1..=u64::MAX),
        attention_examples: section.whole32("attention_examples", 16, 0),
    };
    section.finish();
    wanted.then_some(plan)
}

/// Notes what does not go together, unless a value involved could not be read at all.
fn note_problems(problems: Vec<Problem>, table: &Table, notes: &Notes<'_>) {
    for problem in problems {
        let stood_in = related(&problem.path).iter().any(|path| notes.failed(path));
        if !stood_in {
            let place = place_of(table, &problem.path);
            notes.complain(problem.fault, &problem.path, place, problem.message);
        }
    }
}

/// The paths whose values a problem at `path` may be about.
fn related(path: &str) -> Vec<String> {
    const GROUPS: [&[&str]; 10] = [
        &["d_model", "n_heads", "preset", "name"],
        &["p_ignore", "p_write", "p_read"],
        &["seq_len", "n_ops"],
        &["warmup_steps", "n_steps", "decay_steps"],
        &["nesterov", "momentum", "dampening"],
        &["curve_examples", "n_examples"],
        &["corpus", "n_triggers", "offset", "outputs"],
        &["mlp", "d_mlp", "gelu", "mlp_bias", "mlp_from_layer", "n_layers", "parallel_mlp", "norm"],
        &["factored", "d_inner", "normalised", "norm_length", "init", "first_mlp", "mlp"],
        &["own_v", "identity_v", "identity_out", "n_layers"],
    ];
    let (section, field) = path.rsplit_once('.').unwrap_or(("", path));
    let group = GROUPS.iter().find(|group| group.contains(&field));
    let mut paths = vec![path.to_owned()];
    paths.extend(
        group
            .into_iter()
            .flat_map(|fields| fields.iter())
            .map(|other| format!("{section}.{other}")),
    );
    paths
}

/// Refuses a plan that needs more memory than there is, before anything is allocated.
fn note_memory(plan: &Plan, table: &Table, notes: &Notes<'_>, memory_bytes: Option<u64>) {
    let complain = |path: &str, message: String| {
        notes.complain(Fault::Machine, path, place_of(table, path), message);
    };
    let Some(estimate) = plan.estimate() else {
        let message = "the sizes of this plan are beyond what 64 bits count; make the model, \
                       batch_size, seq_len or n_examples smaller";
        return complain("model", message.to_owned());
    };
    let Some(offered) = memory_bytes.filter(|&offered| offered < estimate.peak_bytes()) else {
        return;
    };
    // One example in a step: what is left is the fault of the model.
    let one = plan.model.train_bytes(1, plan.task.seq_len() as u64);
    let (path, mend) = if one.is_none_or(|bytes| bytes > offered) {
        ("model", "lower d_model or n_layers")
    } else if estimate.train_bytes > offered {
        ("train.batch_size", "lower batch_size, d_model or n_layers")
    } else {
        ("eval", "lower seq_len, d_model or n_layers")
    };
    let verb = if path == "eval" { "evaluation" } else { "training" };
    let message = format!(
        "{verb} needs about {} for {} params, and this machine has {}; {mend}",
        bytes_for_people(estimate.peak_bytes()),
        estimate.n_params,
        bytes_for_people(offered),
    );
    complain(path, message);
}

/// Where the value at `path` was written; for a default, where its table begins.
fn place_of(table: &Table, path: &str) -> Place {
    match path.rsplit_once('.') {
        Some((section, "seq_len")) => {
            let place = tree::place(table, path);
            place.or_else(|| tree::place(table, &format!("{section}.n_ops")))
        }
        _ => tree::place(table, path),
    }
    .or_else(|| tree::nearest_place(table, path))
    .unwrap_or(Place::Default)
}
