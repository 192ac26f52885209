//! Executing a plan: train, measure, seal; or go on where an earlier execution stopped.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mnemoscope_engine::burn;
use mnemoscope_engine::device::{Device, OnDevice, Precision};
use mnemoscope_engine::{AutodiffOps, Ops};
use mnemoscope_model::Model;
use mnemoscope_store::{Begun, CheckpointRef, ErrorKind as StoreErrorKind, RunWriter, Store};
use mnemoscope_task::split;
use serde_json::{Map, Value, json};

use crate::clock::Clock;
use crate::eval::{Exam, Measured, Tally, evaluate};
use crate::event::{Progress, Watcher};
use crate::plan::{EvalSet, Plan};
use crate::probe::{self, Probed};
use crate::train::{Checkpoint, Penalty, Trainer};
use crate::{Error, ErrorKind};

mod cohort;

pub use cohort::{Member, run_cohort};

/// Steps between two losses in the record.
const LOSS_EVERY: u64 = 10;
/// Checkpoints that stay where nothing else is said: if the newest is damaged on the disk, a resume has another.
pub const CHECKPOINTS_KEPT: usize = 2;
/// Kind of the event that holds what was probed of a step.
pub const PROBE: &str = "probe";
/// The file that holds the spec.
const SPEC: &str = "spec.toml";
/// Kind of the event that says how long training has taken so far.
const TIMING: &str = "timing";

/// What a person may choose about an execution; no number of the record depends on it.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Threads to work with, at least 1.
    pub n_threads: usize,
    /// Where to compute. A plan says in which precision, and a device without it is refused; between devices
    /// of one precision the last bits differ, so a record names the one it comes from.
    pub device: Device,
    /// Steps between two checkpoints; the last step always makes one.
    pub checkpoint_every: u64,
    /// The newest so many checkpoints stay, at least 1; [`CHECKPOINTS_KEPT`] are customary. Each holds the whole
    /// state, and shows later how the model answered then.
    pub checkpoints_kept: usize,
    /// What the record says about the machine.
    pub machine: Value,
}

/// How people call a run: kept in its record, not part of its plan.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    /// The study it belongs to.
    pub study: Option<String>,
    /// The arm it belongs to.
    pub arm: String,
    /// The spec as it was written.
    pub spec_text: Option<String>,
}

/// How an execution ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The record is complete; this is its result.
    Sealed(Value),
    /// The plan had been executed before; this is the result of then.
    AlreadySealed(Value),
    /// Somebody asked to stop; the state is saved.
    Interrupted {
        /// Id of the run.
        run: String,
        /// Steps taken.
        step: u64,
        /// Steps to take in all.
        n_steps: u64,
    },
}

/// Executes a plan and leaves a record of it in `store`.
///
/// A plan whose record is sealed is not executed again. One that was interrupted goes on from its
/// last good checkpoint, to the same bits as if nothing had happened.
///
/// # Errors
///
/// Whatever the store refuses; `Diverged`, if a loss, a gradient, a parameter or a logit is not
/// finite. The record then says which and when, and keeps everything it had.
pub fn run_plan(
    plan: &Plan,
    labels: &Labels,
    store: &Store,
    options: &RunOptions,
    clock: &dyn Clock,
    watcher: &mut (dyn Watcher + Send),
) -> Result<Outcome, Error> {
    if options.device != Device::Cpu && plan.cohort().is_some() {
        // Alone, but in batches of the few shapes that a cohort has.
        let only = vec![Member { plan, labels, watcher }];
        return run_cohort(only, store, options, clock).pop().expect("one plan has one outcome");
    }
    let mut execution = match begin(plan, labels, store, options, clock, watcher)? {
        Opening::Begun(execution) => *execution,
        Opening::Sealed(result) => return Ok(Outcome::AlreadySealed(result)),
    };
    let pool = pool(options.n_threads)?;
    // A panic must not take the record with it: it is caught here and written down.
    let ended = catch_unwind(AssertUnwindSafe(|| pool.install(|| execution.execute())));
    execution.close(ended.map_err(|panic| panic_message(panic.as_ref())))
}

/// What there is to do about a plan.
enum Opening<'a> {
    /// Its record is open.
    Begun(Box<Execution<'a>>),
    /// Nothing: this is its result.
    Sealed(Value),
}

/// Opens the record of a plan.
fn begin<'a>(
    plan: &'a Plan,
    labels: &'a Labels,
    store: &Store,
    options: &'a RunOptions,
    clock: &'a dyn Clock,
    watcher: &'a mut (dyn Watcher + Send),
) -> Result<Opening<'a>, Error> {
    check_precision(plan, options.device)?;
    // Before there is a record: it would be one of a device that is not there.
    options.device.check()?;
    let meta = json!({
        "study": labels.study,
        "arm": labels.arm,
        "version": env!("CARGO_PKG_VERSION"),
        "machine": options.machine,
        "device": options.device.to_string(),
        "created_secs": clock.unix_secs(),
    });
    let (writer, resumed) = match store.begin(&plan.id(), &plan.to_value(), &meta)? {
        Begun::New(mut writer) => {
            keep_spec(&mut writer, labels)?;
            (writer, false)
        }
        Begun::Resumed(mut writer) => {
            check_same_device(&writer, options.device)?;
            keep_spec(&mut writer, labels)?;
            (writer, true)
        }
        Begun::Sealed(reader) => {
            let (run, arm) = (reader.id().to_owned(), labels.arm.clone());
            watcher.event(&Progress::AlreadySealed { run, arm });
            let result = reader.result().expect("a sealed run has a result");
            return Ok(Opening::Sealed(result.clone()));
        }
    };
    Ok(Opening::Begun(Box::new(Execution {
        plan,
        labels,
        options,
        clock,
        watcher,
        writer,
        resumed,
        train_secs: 0.0,
        n_together: 1,
        saved: None,
    })))
}

/// Refuses a device whose products are of another precision than the plan's.
fn check_precision(plan: &Plan, device: Device) -> Result<(), Error> {
    let (wanted, there) = (plan.train.precision.of_products(), device.precisions());
    if there.contains(&wanted) {
        return Ok(());
    }
    let there = there[0];
    let message = format!(
        "{}; say `--set train.precision={there}`, which makes it another plan, or another --device",
        device.lacks(wanted)
    );
    Err(Error::new(ErrorKind::Spec, message))
}

/// Refuses to go on with a run where it did not begin: its first part would have other last bits than its second.
fn check_same_device(writer: &RunWriter, device: Device) -> Result<(), Error> {
    let reader = writer.reader()?;
    // Records of before there were others are of the CPU.
    let begun_on = reader.meta()["device"].as_str().unwrap_or("cpu").to_owned();
    if begun_on == device.to_string() {
        return Ok(());
    }
    let message =
        format!("run {} began on {begun_on}; go on with --device {begun_on}", reader.id());
    Err(Error::new(ErrorKind::Spec, message))
}

/// Keeps the spec as it was written, unless the record has a whole one: a process that was killed as soon as it had begun
/// left none, and one that was damaged since is no loss while the text is at hand.
fn keep_spec(writer: &mut RunWriter, labels: &Labels) -> Result<(), Error> {
    let Some(text) = &labels.spec_text else { return Ok(()) };
    match writer.reader()?.file(SPEC) {
        Err(none) if matches!(none.kind(), StoreErrorKind::NotFound | StoreErrorKind::Corrupt) => {
            Ok(writer.write_file(SPEC, text.as_bytes())?)
        }
        _ => Ok(()),
    }
}

/// Threads of one execution's own, so that runs side by side do not share them.
pub(crate) fn pool(n_threads: usize) -> Result<rayon::ThreadPool, Error> {
    rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().map_err(|refusal| {
        Error::new(ErrorKind::Machine, format!("cannot start {n_threads} threads: {refusal}"))
    })
}

/// Does `work` in a pool, with products of the precision of the thread that calls.
pub(crate) fn install<T: Send>(pool: &rayon::ThreadPool, work: impl FnOnce() -> T + Send) -> T {
    let precision = Precision::here();
    pool.install(|| precision.within(work))
}

#[cfg(test)]
#[test]
fn a_pool_computes_with_the_precision_of_the_thread_that_asks_it() {
    let pool = pool(1).expect("one thread can be started");
    let inside = Precision::Bf16.within(|| install(&pool, Precision::here));
    assert_eq!(inside, Precision::Bf16);
    assert_eq!(install(&pool, Precision::here), Precision::F32);
}

/// What a panic said.
fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()))
        .unwrap_or_else(|| "a panic without words".to_owned())
}

/// One execution under way.
struct Execution<'a> {
    plan: &'a Plan,
    labels: &'a Labels,
    options: &'a RunOptions,
    clock: &'a dyn Clock,
    watcher: &'a mut (dyn Watcher + Send),
    writer: RunWriter,
    /// Whether an earlier execution began the record.
    resumed: bool,
    /// Seconds spent in training steps, this execution's and those it goes on from.
    train_secs: f64,
    /// Runs that take their steps in one program of the device, this one among them.
    n_together: usize,
    /// The checkpoint of the trainer's present step, if there is one.
    saved: Option<CheckpointRef>,
}

/// How far an execution came.
enum Ended {
    /// Everything is measured; this result seals the record.
    Measured(Value),
    /// Somebody asked to stop after so many steps.
    Stopped { step: u64 },
}

/// A trained model, and the hash of the checkpoint that holds it.
struct Trained<B: Ops> {
    model: Model<B>,
    blake3: String,
}

/// An execution to be taken to its device.
struct Executing<'e, 'a>(&'e mut Execution<'a>);

impl OnDevice for Executing<'_, '_> {
    type Output = Result<Ended, Error>;

    fn on<A: AutodiffOps>(self, device: &burn::tensor::Device<A>) -> Self::Output {
        self.0.execute_on::<A>(device)
    }
}

impl<'a> Execution<'a> {
    fn execute(&mut self) -> Result<Ended, Error> {
        let device = self.options.device;
        let precision = self.plan.train.precision.of_products();
        device.run_in(precision, Executing(self))?
    }

    /// Closes the record of an execution that ended so, or with a panic of these words.
    fn close(self, ended: Result<Result<Ended, Error>, String>) -> Result<Outcome, Error> {
        let Self { plan, writer, watcher, .. } = self;
        match ended {
            Ok(Ok(Ended::Measured(result))) => {
                writer.seal(&result)?;
                watcher.event(&Progress::Sealed { run: plan.id() });
                Ok(Outcome::Sealed(result))
            }
            Ok(Ok(Ended::Stopped { step })) => {
                writer.interrupt()?;
                Ok(Outcome::Interrupted { run: plan.id(), step, n_steps: plan.train.n_steps })
            }
            Ok(Err(failure)) => {
                let Err(silent) = writer.fail(&failure.to_string()) else { return Err(failure) };
                let message = format!("{failure}; and the record could not say so");
                Err(Error::because(failure.kind(), message, silent))
            }
            Err(message) => {
                writer.crash(&message)?;
                Err(Error::new(ErrorKind::Crashed, format!("run {} crashed: {message}", plan.id())))
            }
        }
    }

    fn execute_on<A: AutodiffOps>(
        &mut self,
        device: &burn::tensor::Device<A>,
    ) -> Result<Ended, Error> {
        let mut trainer = self.open_trainer::<A>(device)?;
        let Some(trained) = self.train(&mut trainer, device)? else {
            return Ok(Ended::Stopped { step: trainer.n_steps_taken() });
        };
        drop(trainer);
        self.finish(&trained, device)
    }

    /// Measures what was trained.
    fn finish<B: Ops>(
        &mut self,
        trained: &Trained<B>,
        device: &burn::tensor::Device<B>,
    ) -> Result<Ended, Error> {
        let Some(eval) = self.measure(trained, device)? else {
            return Ok(Ended::Stopped { step: self.plan.train.n_steps });
        };
        Ok(Ended::Measured(self.result(trained, eval)))
    }

    /// A fresh trainer, or the one that the last good checkpoint describes.
    fn open_trainer<A: AutodiffOps>(
        &mut self,
        device: &burn::tensor::Device<A>,
    ) -> Result<Trainer<'a, A>, Error> {
        let (run, arm) = (self.plan.id(), self.labels.arm.clone());
        let n_steps = self.plan.train.n_steps;
        for warning in self.writer.warnings() {
            self.watcher.event(&Progress::Note(warning.clone()));
        }
        let recovered = if self.resumed { self.writer.last_good_checkpoint()? } else { None };
        let Some((reference, bytes)) = recovered else {
            self.watcher.event(&Progress::Started { run, arm, n_steps });
            return Ok(Trainer::new(self.plan, device));
        };
        let trainer = Trainer::restore(self.plan, Checkpoint::from_bytes(&bytes)?, device)?;
        let step = trainer.n_steps_taken();
        let reader = self.writer.reader()?;
        let timing = reader.events().of_kind(TIMING).next_back();
        self.train_secs = timing.and_then(|event| event.data["train_secs"].as_f64()).unwrap_or(0.0);
        self.saved = Some(reference);
        self.watcher.event(&Progress::Resumed { run, arm, step, n_steps });
        Ok(trainer)
    }

    /// Takes the remaining steps; `None` if somebody asked to stop, with the state saved.
    fn train<A: AutodiffOps>(
        &mut self,
        trainer: &mut Trainer<'a, A>,
        device: &burn::tensor::Device<A>,
    ) -> Result<Option<Trained<A::InnerBackend>>, Error> {
        let n_steps = self.plan.train.n_steps;
        let mut n_tokens = 0;
        let secs_before = self.train_secs;
        while trainer.n_steps_taken() < n_steps {
            if self.watcher.stop_requested() {
                self.save(trainer)?;
                return Ok(None);
            }
            let from = self.clock.elapsed_secs();
            let (loss_nats, probed) =
                self.step(trainer).map_err(|failure| self.with_checkpoint(failure))?;
            self.train_secs += self.clock.elapsed_secs() - from;
            n_tokens += self.tokens_per_step();
            let rate = per_sec(n_tokens, self.train_secs - secs_before);
            let step = trainer.n_steps_taken();
            self.note_step(step, loss_nats, trainer.penalty(), rate)?;
            if let Some(probed) = probed {
                let data = serde_json::to_value(&probed).expect("what is probed is plain data");
                self.writer.append(PROBE, &data)?;
            }
            if self.curve_due(step) {
                self.curve(&trainer.model(), step, device)?;
            }
            if step.is_multiple_of(self.options.checkpoint_every) {
                self.save(trainer)?;
            }
        }
        let blake3 = self.save(trainer)?;
        Ok(Some(Trained { model: trainer.model(), blake3 }))
    }

    fn tokens_per_step(&self) -> u64 {
        u64::from(self.plan.train.batch_size) * self.plan.task.seq_len() as u64
    }

    /// Writes down a step that was taken, and tells it.
    fn note_step(
        &mut self,
        step: u64,
        loss_nats: f64,
        penalty: Option<Penalty>,
        tokens_per_sec: f64,
    ) -> Result<(), Error> {
        self.saved = None;
        let n_steps = self.plan.train.n_steps;
        if step.is_multiple_of(LOSS_EVERY) || step == n_steps {
            let mut told = json!({"step": step, "loss_nats": loss_nats});
            if let Some(penalty) = penalty {
                told["penalty"] = json!(penalty.added);
                told["penalty_weight"] = json!(penalty.weight);
            }
            self.writer.append("loss", &told)?;
        }
        self.watcher.event(&Progress::Step { step, n_steps, loss_nats, tokens_per_sec });
        Ok(())
    }

    /// Whether the learning curves have a point after `step`.
    fn curve_due(&self, step: u64) -> bool {
        let train = &self.plan.train;
        train.curve_every > 0 && (step.is_multiple_of(train.curve_every) || step == train.n_steps)
    }

    /// Takes a step, and probes it if it is due.
    fn step<A: AutodiffOps>(
        &self,
        trainer: &mut Trainer<'a, A>,
    ) -> Result<(f64, Option<Probed>), Error> {
        let (plan, step) = (self.plan, trainer.n_steps_taken() + 1);
        let Some(probe) =
            plan.probe.as_ref().filter(|probe| probe.is_due(step, plan.train.n_steps))
        else {
            return Ok((trainer.step()?, None));
        };
        let attention = trainer.attention(probe);
        let (loss_nats, watched) = trainer.step_watched()?;
        let model = trainer.model();
        let probed = match watched {
            Some(watched) => probe::after(plan, step, attention, watched, &model.params()),
            None => probe::heads(plan, probe, step, &model)?,
        };
        Ok((loss_nats, probed))
    }

    /// The failure of a step, with the checkpoint that one can go on from.
    fn with_checkpoint(&self, failure: Error) -> Error {
        let record = match self.writer.reader() {
            Ok(record) => record,
            Err(unreadable) => {
                let message = format!("{failure}; and the record cannot be read back");
                return Error::because(failure.kind(), message, unreadable);
            }
        };
        let from = match record.checkpoints().pop() {
            Some(kept) => format!("the record keeps the checkpoint of step {}", kept.step),
            None => "it came before the first checkpoint".to_owned(),
        };
        Error::new(failure.kind(), format!("{failure}; {from}"))
    }

    /// Makes sure that a checkpoint of this step is saved, and returns its hash.
    fn save<A: AutodiffOps>(&mut self, trainer: &Trainer<'a, A>) -> Result<String, Error> {
        match &self.saved {
            Some(saved) => Ok(saved.blake3.clone()),
            None => self.save_state(&trainer.checkpoint()),
        }
    }

    /// Saves a checkpoint, and returns its hash.
    fn save_state(&mut self, checkpoint: &Checkpoint) -> Result<String, Error> {
        let step = checkpoint.step;
        // Whatever belongs to the steps before a checkpoint is appended before it is saved: a
        // resume takes back what comes after.
        self.writer.append(TIMING, &json!({"step": step, "train_secs": self.train_secs}))?;
        let saved = self.writer.save_checkpoint(step, &checkpoint.to_bytes())?;
        self.writer.keep_last(self.options.checkpoints_kept)?;
        let blake3 = saved.blake3.clone();
        self.saved = Some(saved);
        Ok(blake3)
    }

    /// Measures a point of every learning curve.
    fn curve<B: Ops>(
        &mut self,
        model: &Model<B>,
        step: u64,
        device: &burn::tensor::Device<B>,
    ) -> Result<(), Error> {
        for (name, set) in &self.plan.eval.sets {
            if set.curve_examples == 0 {
                continue;
            }
            let exam = exam(self.plan, name, set, set.curve_examples, 0);
            let tally = evaluate(model, &exam, device, &mut |_| true)?.tally;
            let (n_trials, n_errors) = (tally.clusters.n_trials(), tally.clusters.n_errors());
            self.writer.append(
                "curve",
                &json!({
                    "step": step, "set": name, "n_examples": tally.n_examples,
                    "n_trials": n_trials, "n_errors": n_errors,
                }),
            )?;
            self.watcher.event(&Progress::Curve { step, set: name.clone(), n_trials, n_errors });
        }
        Ok(())
    }

    /// The final evaluation of every set; `None` if somebody asked to stop.
    ///
    /// A set that an earlier execution finished with the same checkpoint is not measured again.
    fn measure<B: Ops>(
        &mut self,
        trained: &Trained<B>,
        device: &burn::tensor::Device<B>,
    ) -> Result<Option<Map<String, Value>>, Error> {
        let mut all = Map::new();
        for (name, set) in &self.plan.eval.sets {
            let file = format!("eval/{name}.json");
            if let Some(done) = self.measured_before(&file, &trained.blake3)? {
                all.insert(name.clone(), done);
                continue;
            }
            let from = self.clock.elapsed_secs();
            let exam = exam(self.plan, name, set, set.n_examples, self.plan.eval.max_glitches);
            let watcher = &mut *self.watcher;
            let measured = evaluate(&trained.model, &exam, device, &mut |tally| {
                watcher.event(&Progress::Eval {
                    set: name.clone(),
                    n_examples_done: tally.n_examples,
                    n_examples: set.n_examples,
                    n_trials: tally.clusters.n_trials(),
                    n_errors: tally.clusters.n_errors(),
                });
                !watcher.stop_requested()
            })?;
            if !measured.complete {
                return Ok(None);
            }
            all.insert(name.clone(), self.keep(&file, trained, &exam, measured, from)?);
        }
        Ok(Some(all))
    }

    /// What an earlier execution measured of a set with the same checkpoint.
    fn measured_before(&self, file: &str, blake3: &str) -> Result<Option<Value>, Error> {
        match self.writer.reader()?.json(file) {
            Ok(mut done) => Ok((done["checkpoint"] == blake3).then(|| done["result"].take())),
            Err(absent) if absent.kind() == StoreErrorKind::NotFound => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Writes down what one set showed since `from`: its counts, its result, its first errors.
    fn keep<B: Ops>(
        &mut self,
        file: &str,
        trained: &Trained<B>,
        exam: &Exam<'_>,
        measured: Measured,
        from: f64,
    ) -> Result<Value, Error> {
        let mut result = summarize(self.plan, exam, &measured.tally);
        // Intervals by resampling are a part of measuring.
        result["wall_secs"] = json!(self.clock.elapsed_secs() - from);
        result["n_glitch_files"] = json!(measured.errors.len());
        let run = self.plan.id();
        for error in measured.errors {
            let glitch = error.into_glitch(&run, self.plan.train.n_steps, &trained.blake3, exam);
            let value = serde_json::to_value(&glitch).expect("a glitch is plain data");
            self.writer.write_json(&glitch.file_name(), &value)?;
        }
        let kept = json!({
            "checkpoint": trained.blake3, "stream": exam.stream, "task": exam.task,
            "tally": measured.tally, "result": result,
        });
        self.writer.write_json(file, &kept)?;
        Ok(result)
    }

    /// The result that seals the record; docs/formats.md describes it.
    fn result<B: Ops>(&self, trained: &Trained<B>, eval: Map<String, Value>) -> Value {
        let plan = self.plan;
        let n_tokens = plan.train.n_steps * self.tokens_per_step();
        let mut device = json!({
            "name": self.options.device.to_string(),
            "precision": self.plan.train.precision,
        });
        if self.n_together > 1 {
            device["n_together"] = json!(self.n_together);
        }
        let mut model = serde_json::to_value(&plan.model).expect("a model spec is plain data");
        model["n_params"] = json!(plan.model.n_params());
        json!({
            "run": plan.id(),
            "plan": plan.id(),
            "status": "sealed",
            "study": self.labels.study,
            "arm": self.labels.arm,
            "seeds": plan.seeds,
            "task": plan.task,
            "model": model,
            "train": {
                "n_steps": plan.train.n_steps,
                "n_tokens": n_tokens,
                "wall_secs": self.train_secs,
                "tokens_per_sec": per_sec(n_tokens, self.train_secs),
            },
            "eval": eval,
            "checkpoint": {"step": plan.train.n_steps, "blake3": trained.blake3},
            "machine": self.options.machine,
            "device": device,
            "version": env!("CARGO_PKG_VERSION"),
            "sealed": self.clock.unix_secs(),
        })
    }
}

/// The exam that a plan sets under a name.
pub(crate) fn exam<'p>(
    plan: &Plan,
    name: &'p str,
    set: &'p EvalSet,
    n_examples: u64,
    max_glitches: u32,
) -> Exam<'p> {
    Exam {
        set: name,
        task: &set.task,
        stream: split::eval_stream(plan.seeds.eval, name),
        n_examples,
        max_glitches: max_glitches as usize,
    }
}

/// The numbers of a result for one set.
pub(crate) fn summarize(plan: &Plan, exam: &Exam<'_>, tally: &Tally) -> Value {
    let resampling = exam.stream.derive("bootstrap");
    tally.to_json(plan.eval.confidence, plan.eval.n_resamples, &resampling)
}

/// A rate; zero where no time has passed, as under a clock that stands still.
fn per_sec(count: u64, secs: f64) -> f64 {
    if secs > 0.0 { count as f64 / secs } else { 0.0 }
}
