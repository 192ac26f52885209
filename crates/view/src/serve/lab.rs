//! What the dashboard asks of those who know the models, and the one thread that answers.
//!
//! This room reads records and knows no model. Whoever starts the dashboard hands in a [`Lab`]. It is asked by one
//! thread, one question after the other: a browser that sends ten at once waits for ten, and the machine does not
//! compute ten side by side.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use mnemoscope_store::RunReader;
use serde_json::Value;

use crate::published;
use crate::study::Verdict;

/// Questions that wait; one more is refused.
const MOST_WAITING: usize = 8;

/// Those who know the models: a laboratory, as the dashboard sees it.
pub trait Lab: Send {
    /// Answers the sequence of a kept error, perhaps edited, with a checkpoint of its run, and shows where every
    /// head looked.
    ///
    /// # Errors
    ///
    /// A refusal for the person who asked.
    fn see(&mut self, run: &RunReader, asked: &Asked) -> Result<Arc<Seen>, Refusal>;

    /// Resolves the spec of a study and holds its claims against runs of it.
    ///
    /// # Errors
    ///
    /// A refusal for the person who asked.
    fn judge(&mut self, spec: &str, runs: &[RunReader]) -> Result<Judged, Refusal>;
}

/// Which sequence is asked about, and of which checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// The kept error as its file has it.
    pub glitch: Value,
    /// Steps of the checkpoint; the last one where none is named.
    pub step: Option<u64>,
    /// Tokens that stand in place of others: place and token.
    pub edits: Vec<(usize, u32)>,
}

/// A sequence answered by a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Steps the model had been trained for.
    pub step: u64,
    /// Hash of the checkpoint it comes from.
    pub checkpoint: String,
    /// The whole example, edits included.
    pub tokens: Vec<u32>,
    /// Tokens of it that the model is fed, from the first.
    pub n_fed: usize,
    /// The word of each token of the vocabulary.
    pub vocab: Vec<String>,
    /// What kind of token each of them is: those of one kind may stand in each other's place.
    pub kinds: Vec<u8>,
    /// `[n_fed, d_vocab]`.
    pub logits: Vec<f32>,
    /// Where the language asks, in order.
    pub questions: Vec<Question>,
    /// Where each head looks; empty of a model without heads.
    pub patterns: Vec<Pattern>,
}

/// A place where the language asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Where the model is asked.
    pub query_pos: usize,
    /// The token that is right.
    pub expected: u32,
    /// Where it was written last; the query's own place if nowhere.
    pub write_pos: usize,
}

/// Where one head looks.
#[derive(Clone, Debug, PartialEq)]
pub struct Pattern {
    /// Layer, from 0.
    pub layer: usize,
    /// Head, from 0.
    pub head: usize,
    /// `[n_fed, n_fed]`: a row a query, its shares sum to 1.
    pub shares: Vec<f32>,
}

/// A study beside what was measured.
#[derive(Clone, Debug, Default)]
pub struct Judged {
    /// What is asked.
    pub question: Option<String>,
    /// Ids of its plans, in their order.
    pub plans: Vec<String>,
    /// Claims beside what was measured.
    pub verdicts: Vec<Verdict>,
    /// Published curves beside what was measured.
    pub published: Vec<published::Curve>,
}

/// Why there is no answer, for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Whose doing it is.
    pub kind: RefusalKind,
    /// What is wrong and what to do, as a sentence without its point.
    pub message: String,
}

/// Whose doing a refusal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The question makes no sense.
    Asked,
    /// What is asked about is not there.
    NotFound,
    /// The record is damaged, or of another release.
    Record,
    /// The machine has no room or no time.
    Busy,
    /// Something failed here.
    Failed,
}

impl Refusal {
    /// A refusal.
    #[must_use]
    pub fn new(kind: RefusalKind, message: impl std::fmt::Display) -> Self {
        Self { kind, message: message.to_string() }
    }
}

impl From<mnemoscope_store::Error> for Refusal {
    fn from(error: mnemoscope_store::Error) -> Self {
        use mnemoscope_store::ErrorKind as Kind;
        let kind = match error.kind() {
            Kind::NotFound => RefusalKind::NotFound,
            Kind::Ambiguous | Kind::Invalid => RefusalKind::Asked,
            Kind::Incompatible | Kind::Corrupt => RefusalKind::Record,
            Kind::Locked | Kind::Full => RefusalKind::Busy,
            Kind::Io => RefusalKind::Failed,
        };
        Self::new(kind, error)
    }
}

/// A question on its way to the thread.
type Errand = Box<dyn FnOnce(&mut dyn Lab) + Send>;

/// The door to the thread that asks the laboratory.
#[derive(Clone)]
pub(super) struct Desk {
    errands: SyncSender<Errand>,
}

/// Whether somebody still waits for the answer.
#[derive(Clone, Debug)]
pub(super) struct Waiting(Arc<AtomicBool>);

/// Says that nobody waits any more, when it goes.
#[derive(Debug)]
pub(super) struct Gone(Arc<AtomicBool>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

impl Waiting {
    /// Somebody who waits, until the other half goes.
    pub(super) fn begin() -> (Self, Gone) {
        let waits = Arc::new(AtomicBool::new(true));
        (Self(Arc::clone(&waits)), Gone(waits))
    }

    fn still(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl Desk {
    /// Starts the thread; it ends with the last door to it.
    pub(super) fn open(mut lab: Box<dyn Lab>) -> std::io::Result<Self> {
        let (errands, queue): (SyncSender<Errand>, Receiver<Errand>) = sync_channel(MOST_WAITING);
        thread::Builder::new().name("lab".to_owned()).spawn(move || {
            for errand in queue {
                errand(lab.as_mut());
            }
        })?;
        Ok(Self { errands })
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    ///
    /// The laboratory's own refusals; `Busy`, if too many wait already; `Failed`, if it broke down over this
    /// question.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        waiting: &Waiting,
        question: impl FnOnce(&mut dyn Lab) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let (answers, answer) = sync_channel(1);
        let waiting = waiting.clone();
        let errand: Errand = Box::new(move |lab| {
            // A browser that went on to the next place no longer wants this one.
            if !waiting.still() {
                return;
            }
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| question(lab)));
            let said = caught.unwrap_or_else(|_| {
                let what = "the model broke down over this sequence; standard error says more";
                Err(Refusal::new(RefusalKind::Failed, what))
            });
            // Nobody may be there to take it.
            answers.send(said).ok();
        });
        self.errands.try_send(errand).map_err(|refused| match refused {
            TrySendError::Full(_) => Refusal::new(
                RefusalKind::Busy,
                format!("{MOST_WAITING} questions wait already; ask again in a moment"),
            ),
            TrySendError::Disconnected(_) => {
                Refusal::new(RefusalKind::Failed, "nobody answers for the models any more")
            }
        })?;
        answer.recv().unwrap_or_else(|_| {
            Err(Refusal::new(RefusalKind::Busy, "the question was given up before its turn"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counting(u32);

    impl Lab for Counting {
        fn see(&mut self, _: &RunReader, _: &Asked) -> Result<Arc<Seen>, Refusal> {
            panic!("this laboratory sees nothing")
        }

        fn judge(&mut self, spec: &str, _: &[RunReader]) -> Result<Judged, Refusal> {
            self.0 += 1;
            Ok(Judged { question: Some(format!("{spec} {}", self.0)), ..Judged::default() })
        }
    }

    #[test]
    fn questions_are_answered_one_after_the_other_and_those_nobody_waits_for_are_not() {
        let desk = Desk::open(Box::new(Counting(0))).unwrap();
        let ask = |waiting: &Waiting| {
            desk.ask(waiting, |lab| Ok(lab.judge("it is", &[])?.question.unwrap_or_default()))
        };
        let (waiting, _here) = Waiting::begin();
        assert_eq!(ask(&waiting).unwrap(), "it is 1");
        let (given_up, gone) = Waiting::begin();
        drop(gone);
        assert_eq!(ask(&given_up).unwrap_err().kind, RefusalKind::Busy);
        assert_eq!(ask(&waiting).unwrap(), "it is 2");
    }

    #[test]
    fn one_more_question_than_there_is_room_for_is_refused() {
        let desk = Desk::open(Box::new(Counting(0))).unwrap();
        let (waiting, _here) = Waiting::begin();
        let (release, held) = sync_channel::<()>(0);
        thread::scope(|scope| {
            let busy = |held: Receiver<()>| {
                let (desk, waiting) = (desk.clone(), waiting.clone());
                scope.spawn(move || {
                    desk.ask(&waiting, move |_| {
                        held.recv().ok();
                        Ok(())
                    })
                });
            };
            busy(held);
            // The first holds the thread or is about to; eight more fill the queue behind it.
            let refusal = loop {
                let (desk, waiting) = (desk.clone(), waiting.clone());
                let (answers, answer) = sync_channel(1);
                scope.spawn(move || answers.send(desk.ask(&waiting, |_| Ok(()))).ok());
                // One that is refused comes back at once, the others only when the first is let go.
                if let Ok(Err(refusal)) = answer.recv_timeout(std::time::Duration::from_millis(50))
                {
                    break refusal;
                }
            };
            assert_eq!(refusal.message, "8 questions wait already; ask again in a moment");
            drop(release);
        });
    }

    #[test]
    fn a_laboratory_that_breaks_down_says_so_and_goes_on() {
        let desk = Desk::open(Box::new(Counting(0))).unwrap();
        let (waiting, _here) = Waiting::begin();
        let broken = desk.ask(&waiting, |_| -> Result<(), Refusal> { panic!("over this one") });
        assert_eq!(broken.unwrap_err().kind, RefusalKind::Failed);
        assert!(desk.ask(&waiting, |lab| lab.judge("", &[])).is_ok());
    }
}
