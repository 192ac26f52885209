//! A trained model kept open: any sequence of its language, at any checkpoint that is kept, with every pattern.
//!
//! A replay shows one error as it happened. Here the same sequence is asked with tokens changed, and of the model as it
//! was earlier, one question after another; loading a model takes longer than asking it.

use mnemoscope_engine::device::{Device, Precision};
use mnemoscope_engine::{Ops, burn};
use mnemoscope_model::hook::points;
use mnemoscope_model::{Model, ModelSpec};
use mnemoscope_store::RunReader;
use mnemoscope_task::{Target, Task, Token};

use crate::eval::Glitch;
use crate::on_device::on_device;
use crate::plan::Plan;
use crate::probe::map::look_at;
use crate::replay::{draw_again, open_model_at, set_of};
use crate::{Error, ErrorKind};

/// Patterns of one sequence, at most: those of 6 layers of 8 heads over 512 places are 48 MiB.
const MOST_PATTERN_BYTES: u64 = 1 << 30;

/// A model of a run at one of its checkpoints, ready to be asked.
pub struct Opened {
    plan: Plan,
    step: u64,
    blake3: String,
    model: Box<dyn Sees>,
    threads: rayon::ThreadPool,
    /// Of products.
    precision: Precision,
}

/// A sequence answered at every place.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The language, which knows what tokens are called.
    pub task: Task,
    /// The whole example, edits included.
    pub tokens: Vec<Token>,
    /// Tokens of it that the model was fed, from the first.
    pub n_fed: usize,
    /// The scored places, in order.
    pub targets: Vec<Target>,
    /// `[n_fed, d_vocab]`.
    pub logits: Vec<f32>,
    /// Layer, head, and where it looked: `[n_fed, n_fed]`. Empty of a model without heads.
    pub patterns: Vec<(usize, usize, Vec<f32>)>,
}

/// A model on whatever device it is.
trait Sees: Send + Sync {
    fn see(&self, tokens: &[Token]) -> Result<Answers, Error>;
}

/// Logits and patterns of one pass.
type Answers = (Vec<f32>, Vec<(usize, usize, Vec<f32>)>);

struct On<B: Ops> {
    model: Model<B>,
    device: burn::tensor::Device<B>,
}

impl<B: Ops> Sees for On<B> {
    fn see(&self, tokens: &[Token]) -> Result<Answers, Error> {
        let n = tokens.len();
        let too_long =
            |n_ctx| format!("the sequence has {n} tokens, and the model knows {n_ctx} places");
        let seen = look_at(&self.model, tokens, &too_long, &self.device)?;
        Ok((seen.logits, seen.patterns))
    }
}

impl Opened {
    /// Opens a run's model after `step` steps, or its last checkpoint.
    ///
    /// # Errors
    ///
    /// `NotFound`, if that checkpoint is not kept; `Corrupt` and `Incompatible` from reading it; `Machine`, if
    /// no threads can be started.
    pub fn open(
        run: &RunReader,
        step: Option<u64>,
        n_threads: usize,
        device: Device,
    ) -> Result<Self, Error> {
        on_device!(device, of run, open_on(run: &'a RunReader, step: Option<u64>, n_threads: usize) -> Opened)
    }

    /// Steps that the model was trained for.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Hash of its checkpoint.
    #[must_use]
    pub fn blake3(&self) -> &str {
        &self.blake3
    }

    /// Answers the example of a glitch, drawn again from its address, with some tokens in place of others.
    ///
    /// Logits at a scored place have the bits of the evaluation that found the glitch, if the checkpoint is the
    /// same and no token before the place is edited.
    ///
    /// # Errors
    ///
    /// `Spec`, if an edit is of a place or a token that there is not; `Corrupt`, if the address gives another
    /// example than the glitch holds; `Diverged`, if a logit is not finite.
    pub fn see(&self, glitch: &Glitch, edits: &[(usize, u32)]) -> Result<Seen, Error> {
        let task = set_of(&self.plan, glitch)?;
        let mut tokens = draw_again(task, glitch)?.tokens;
        edit(&mut tokens, edits, task.d_vocab())?;
        let n_fed = task.n_fed();
        self.check_room(n_fed)?;
        let answer = || self.model.see(&tokens[..n_fed]);
        let (logits, patterns) = self.threads.install(|| self.precision.within(answer))?;
        if !logits.iter().all(|logit| logit.is_finite()) {
            let message =
                format!("the model after {} steps gives logits that are not finite", self.step);
            return Err(Error::new(ErrorKind::Diverged, message));
        }
        let mut targets = Vec::new();
        task.targets_into(&glitch.stream, glitch.index, &tokens, &mut targets);
        targets.retain(|target| (target.query_pos as usize) < n_fed);
        Ok(Seen { task: task.clone(), tokens, n_fed, targets, logits, patterns })
    }
}

impl Opened {
    /// Refuses patterns that would fill the memory: whoever looks at a stranger's run did not choose its sizes.
    fn check_room(&self, n_fed: usize) -> Result<(), Error> {
        let n_layers = points(&self.plan.model)
            .iter()
            .filter(|it| it.name.ends_with(".attn.hook_pattern"))
            .count();
        let n_heads = match &self.plan.model {
            ModelSpec::Transformer(spec) => spec.n_heads,
            ModelSpec::Lstm(_) | ModelSpec::Associative(_) => 1,
        };
        let n_bytes = (n_layers * n_heads) as u64 * (n_fed as u64).pow(2) * size_of::<f32>() as u64;
        if n_bytes <= MOST_PATTERN_BYTES {
            return Ok(());
        }
        let message = format!(
            "the patterns of {} heads over {n_fed} places take {} MiB, and at most {} are kept",
            n_layers * n_heads,
            n_bytes >> 20,
            MOST_PATTERN_BYTES >> 20
        );
        Err(Error::new(ErrorKind::Machine, message))
    }
}

fn open_on<B: Ops>(
    device: &burn::tensor::Device<B>,
    run: &RunReader,
    step: Option<u64>,
    n_threads: usize,
) -> Result<Opened, Error> {
    let threads = crate::run::pool(n_threads)?;
    let opened = crate::run::install(&threads, || open_model_at::<B>(run, step, device));
    let (plan, model, reference) = opened?;
    let precision = Precision::here();
    let model = Box::new(On { model, device: device.clone() });
    let (step, blake3) = (reference.step, reference.blake3);
    Ok(Opened { plan, step, blake3, model, threads, precision })
}

/// Puts tokens in place of others.
fn edit(tokens: &mut [Token], edits: &[(usize, u32)], d_vocab: u32) -> Result<(), Error> {
    let n = tokens.len();
    for &(pos, token) in edits {
        let known = Token::try_from(token).ok().filter(|_| token < d_vocab);
        match (tokens.get_mut(pos), known) {
            (Some(place), Some(token)) => *place = token,
            (None, _) => {
                let message = format!(
                    "place {pos} is edited, and the example has {n} tokens, counted from 0"
                );
                return Err(Error::new(ErrorKind::Spec, message));
            }
            (_, None) => {
                let message = format!(
                    "token {token} is put at place {pos}, and the language has {d_vocab}, counted from 0"
                );
                return Err(Error::new(ErrorKind::Spec, message));
            }
        }
    }
    Ok(())
}
