//! What can be wrong with a plan whose every field is present: values that do not go together.

use std::collections::BTreeSet;

use mnemoscope_model::{DropoutRates, ModelSpec, layout};
use mnemoscope_task::{Coding, Complaint, Scoring, Task};

use super::complaint::Fault;
use super::types::{Anneal, EvalPlan, OptimizerPlan, Plan, SgdPlan, TrainPlan};
use crate::probe;

/// One thing that is wrong with a plan, at the path where a spec would have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) path: String,
    pub(crate) message: String,
    pub(crate) fault: Fault,
}

impl Plan {
    /// Everything that is wrong with the plan; empty if it can be run on a large enough machine.
    pub(crate) fn check(&self) -> Vec<Problem> {
        let mut found = Found::default();
        found.task("task", &self.task, &[]);
        found.model(&self.model);
        found.train(&self.train);
        found.eval(&self.eval, &self.task);
        if found.0.is_empty() {
            found.regularisation(self);
            found.freeze(self);
            found.probe(self);
            found.fit(self);
        }
        found.0
    }
}

#[derive(Default)]
struct Found(Vec<Problem>);

impl Found {
    fn push(&mut self, path: impl Into<String>, message: String) {
        self.0.push(Problem { path: path.into(), message, fault: Fault::Together });
    }

    /// What is wrong with a language beyond what was `said` of the one it takes its shape from.
    fn task(&mut self, path: &str, task: &Task, said: &[Complaint]) {
        for complaint in task.check() {
            if said.contains(&complaint) {
                continue;
            }
            let field = match complaint.part {
                Some(part) => format!("{path}.parts[{part}].{}", complaint.field),
                None => format!("{path}.{}", complaint.field),
            };
            self.push(field, complaint.message);
        }
    }

    fn model(&mut self, model: &ModelSpec) {
        let uncountable = model.train_bytes(1, 1).is_none();
        for complaint in model.check() {
            let fault = match complaint.field {
                "d_model" if uncountable => Fault::Machine,
                _ => Fault::Together,
            };
            let path = format!("model.{}", complaint.field);
            self.0.push(Problem { path, message: complaint.message, fault });
        }
    }

    fn train(&mut self, train: &TrainPlan) {
        let TrainPlan { n_steps, batch_size, warmup_steps, decay_steps, ref optimizer, .. } =
            *train;
        for (field, count) in [("n_steps", n_steps), ("batch_size", u64::from(batch_size))] {
            if count == 0 {
                self.push(format!("train.{field}"), format!("{field} is 0; use at least 1"));
            }
        }
        if n_steps > 0 && warmup_steps > n_steps {
            let message = format!(
                "warmup_steps is {warmup_steps}, but training ends after n_steps = {n_steps}; \
                 use at most that"
            );
            self.push("train.warmup_steps", message);
        }
        if decay_steps < n_steps {
            let message = format!(
                "decay_steps is {decay_steps}, so the learning rate would be 0 before n_steps = \
                 {n_steps}; use at least that"
            );
            self.push("train.decay_steps", message);
        }
        self.optimizer(optimizer);
        let DropoutRates { attn, mlp, resid, embed } = train.dropout;
        for (field, rate) in [("attn", attn), ("mlp", mlp), ("resid", resid), ("embed", embed)] {
            if !(0.0..1.0).contains(&rate) {
                let message = format!("{field} is {rate}; use a number from 0 to below 1");
                self.push(format!("train.dropout.{field}"), message);
            }
        }
        let Some(sharpen) = &train.sharpen else { return };
        if !(sharpen.weight > 0.0 && sharpen.weight.is_finite()) {
            let message = format!("weight is {}, out of range", sharpen.weight);
            self.push("train.sharpen.weight", message);
        }
        if let Anneal::Linear { n_steps: 0 } | Anneal::Oscillating { n_steps: 0 } = sharpen.anneal {
            let message = "anneal_steps is 0; use at least 1";
            self.push("train.sharpen.anneal_steps", message.to_owned());
        }
    }

    /// Whether there is anything that probes can read.
    fn probe(&mut self, plan: &Plan) {
        let Some(probe) = &plan.probe else { return };
        if probe.every == 0 {
            self.push("probe.every", "every is 0; use at least 1".to_owned());
        }
        if let Err(why) = probe::subject(&plan.task, &plan.model) {
            self.push("probe", format!("{why}; leave [probe] out"));
        }
    }

    /// Whether the model has what training drops and penalises.
    fn regularisation(&mut self, plan: &Plan) {
        let TrainPlan { ref dropout, ref sharpen, n_steps, .. } = plan.train;
        let drops = *dropout != DropoutRates::default();
        let ModelSpec::Transformer(spec) = &plan.model else {
            let model = plan.model.name();
            for (field, asked) in [("dropout", drops), ("sharpen", sharpen.is_some())] {
                if asked {
                    let message = format!(
                        "{field} is of a transformer's training, and the model is {model}; leave \
                         [train.{field}] out"
                    );
                    self.push(format!("train.{field}"), message);
                }
            }
            return;
        };
        if dropout.mlp > 0.0 && !spec.mlp.has_width() {
            let message = format!(
                "mlp is the dropout behind an activation, but mlp = \"{}\" has none; leave it out",
                spec.mlp.name()
            );
            self.push("train.dropout.mlp", message);
        }
        let Some(sharpen) = sharpen else { return };
        if sharpen.from_step >= n_steps {
            let message = format!(
                "from_step is {}, but training ends after n_steps = {n_steps}; use less",
                sharpen.from_step
            );
            self.push("train.sharpen.from_step", message);
        }
        if let Some(layer) = sharpen.layers.iter().find(|&&layer| layer >= spec.n_layers) {
            let message = format!(
                "layers has {layer}, but the last of n_layers = {} is {}; use at most that",
                spec.n_layers,
                spec.n_layers - 1
            );
            self.push("train.sharpen.layers", message);
        } else if !sharpen.layers.is_sorted_by(|a, b| a < b) {
            let message = format!("layers is {:?}; give each once, ascending", sharpen.layers);
            self.push("train.sharpen.layers", message);
        }
    }

    /// Whether the frozen params are the model's, and not all there are.
    fn freeze(&mut self, plan: &Plan) {
        let frozen = &plan.train.freeze;
        let names: BTreeSet<String> =
            layout(&plan.model).into_iter().map(|slot| slot.name).collect();
        for name in frozen.keys().filter(|name| !names.contains(*name)) {
            self.push("train.freeze", format!("the model has no param `{name}`"));
        }
        if !names.iter().any(|name| plan.train.learns(name, plan.train.n_steps)) {
            let message =
                "every param is frozen to the last step, so nothing learns; leave one out";
            self.push("train.freeze", message.to_owned());
        }
    }

    fn optimizer(&mut self, optimizer: &OptimizerPlan) {
        let positive = |x: f64| (x, x > 0.0);
        let not_negative = |x: f64| (x, x >= 0.0);
        let below_one = |x: f64| (x, (0.0..1.0).contains(&x));
        let mut sound = match optimizer {
            OptimizerPlan::AdamW(plan) => vec![
                ("lr", positive(plan.lr)),
                ("beta1", below_one(plan.beta1)),
                ("beta2", below_one(plan.beta2)),
                ("epsilon", positive(plan.epsilon)),
                ("weight_decay", not_negative(plan.weight_decay)),
            ],
            OptimizerPlan::Sgd(plan) => vec![
                ("lr", positive(plan.lr)),
                ("momentum", below_one(plan.momentum)),
                ("dampening", below_one(plan.dampening)),
                ("weight_decay", not_negative(plan.weight_decay)),
            ],
        };
        sound.extend(optimizer.clip_norm().map(|norm| ("clip_norm", positive(norm))));
        for (field, (number, in_range)) in sound {
            if !(in_range && number.is_finite()) {
                self.push(format!("train.{field}"), format!("{field} is {number}, out of range"));
            }
        }
        if let OptimizerPlan::Sgd(SgdPlan { momentum, dampening, nesterov: true, .. }) = optimizer
            && (*momentum <= 0.0 || *dampening > 0.0)
        {
            let message = format!(
                "nesterov goes with momentum above 0 and dampening 0, but momentum is {momentum} \
                 and dampening {dampening}; mend these, or leave nesterov out"
            );
            self.push("train.nesterov", message);
        }
    }

    fn eval(&mut self, eval: &EvalPlan, trained: &Task) {
        if eval.sets.is_empty() {
            let message = "every set is left out; keep at least one with n_examples above 0";
            self.push("eval", message.to_owned());
        }
        if !(0.0 < eval.confidence && eval.confidence < 1.0) {
            let message = format!("confidence is {}, not between 0 and 1", eval.confidence);
            self.push("eval.confidence", message);
        }
        if eval.n_resamples == 0 {
            self.push("eval.n_resamples", "n_resamples is 0; use at least 1".to_owned());
        }
        let said = trained.check();
        for (name, set) in &eval.sets {
            self.task(&format!("eval.{name}"), &set.task, &said);
            if set.curve_examples > set.n_examples {
                let message = format!(
                    "curve_examples is {}, but the set has n_examples = {}; use at most that",
                    set.curve_examples, set.n_examples
                );
                self.push(format!("eval.{name}.curve_examples"), message);
            }
        }
    }

    /// Whether task, model and evaluation sets have the same shape.
    fn fit(&mut self, plan: &Plan) {
        if plan.train.loss == Scoring::All && matches!(plan.task, Task::Automaton(_)) {
            let message = "loss is \"all\", the next tokens, but the automaton is asked for its \
                           state at every token already; leave loss out";
            self.push("train.loss", message.to_owned());
        }
        let n_symbols = plan.task.n_symbols();
        let d_vocab = plan.task.d_vocab();
        if plan.model.d_vocab() < d_vocab as usize {
            let tokens = match plan.task {
                Task::FlipFlop(_) | Task::Mixture(_) if plan.task.coding() == Coding::Tokens => {
                    format!("{d_vocab} tokens (3 and n_symbols = {n_symbols})")
                }
                _ => format!("{d_vocab} tokens"),
            };
            let message = format!(
                "d_vocab is {}, but the task has {tokens}; leave d_vocab out to follow the task",
                plan.model.d_vocab()
            );
            self.push("model.d_vocab", message);
        }
        let sets = plan.eval.sets.iter().map(|(name, set)| (format!("eval.{name}"), &set.task));
        let tasks: Vec<_> = std::iter::once(("task".to_owned(), &plan.task)).chain(sets).collect();
        for (path, task) in &tasks {
            if let Some((field, message)) = other_vocabulary(task, &plan.task) {
                self.push(format!("{path}.{field}"), message);
            } else if task.n_symbols() != n_symbols {
                let message = format!(
                    "n_symbols is {}, but the model is trained on n_symbols = {n_symbols}; \
                     use the same vocabulary",
                    task.n_symbols()
                );
                self.push(format!("{path}.n_symbols"), message);
            }
        }
        let Some((path, task)) = tasks.iter().max_by_key(|(_, task)| task.n_ctx()) else {
            return;
        };
        if let Some(n_ctx) = plan.model.n_ctx().filter(|&n_ctx| n_ctx < task.n_ctx()) {
            let n_tokens = task.n_ctx();
            // Another coding spells `seq_len` in more or fewer tokens.
            let what = match task.coding() {
                Coding::Tokens => format!("{path}.seq_len is {n_tokens}"),
                _ => format!("an example of {path} is spelt in {n_tokens} tokens"),
            };
            let message =
                format!("n_ctx is {n_ctx}, but {what}; use at least that, or leave n_ctx out");
            self.push("model.n_ctx", message);
        }
    }
}

/// Why the tokens of a set mean something else than those the model is trained on.
fn other_vocabulary(task: &Task, trained: &Task) -> Option<(&'static str, String)> {
    match (task, trained) {
        (Task::Bigram(set), Task::Bigram(trained)) => (set.corpus != trained.corpus).then(|| {
            let message = "the corpus is another one than the model is trained on; use the same";
            ("corpus", message.to_owned())
        }),
        (Task::Automaton(_), Task::Automaton(_)) => None,
        (Task::Bigram(_) | Task::Automaton(_), _) | (_, Task::Bigram(_) | Task::Automaton(_)) => {
            let message = format!(
                "the set is {}, but the model is trained on {}, which has other tokens; use the \
                 same family",
                task.name(),
                trained.name()
            );
            Some(("name", message))
        }
        (Task::FlipFlop(_) | Task::Mixture(_), _) => {
            (task.coding() != trained.coding()).then(|| {
                let message =
                    "the coding is another one than the model is trained on; use the same";
                ("coding", message.to_owned())
            })
        }
    }
}
