//! The verbs, one file each. A verb reads its flags, asks the rooms below, and hands the answer
//! to a voice.

pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod eval;
pub(crate) mod figure;
pub(crate) mod gallery;
pub(crate) mod generate;
pub(crate) mod glitches;
pub(crate) mod plan;
pub(crate) mod probe;
mod probe_reads;
pub(crate) mod prune;
pub(crate) mod replay;
pub(crate) mod report;
pub(crate) mod reproduce;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod score;
pub(crate) mod serve;
pub(crate) mod show;
pub(crate) mod spec;
mod subject;
pub(crate) mod sweep;
pub(crate) mod theory;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::flags::Verb;
use crate::session::Session;

/// Does what the command line asks.
pub(crate) fn dispatch(verb: &Verb, session: &mut Session) -> Result<Exit, Failure> {
    match verb {
        Verb::Demo(flags) => demo::run(flags, session),
        Verb::Gallery(flags) => gallery::run(flags, session),
        Verb::Generate(flags) => generate::run(flags, session),
        Verb::Score(flags) => score::run(flags, session),
        Verb::Spec(flags) => spec::run(flags, session),
        Verb::Plan(flags) => plan::run(flags, session),
        Verb::Run(flags) => run::run(flags, session),
        Verb::Sweep(flags) => sweep::run(flags, session),
        Verb::Reproduce(flags) => reproduce::run(flags, session),
        Verb::Eval(flags) => eval::run(flags, session),
        Verb::Probe(flags) => probe::run(flags, session),
        Verb::Glitches(flags) => glitches::run(flags, session),
        Verb::Replay(flags) => replay::run(flags, session),
        Verb::Runs(flags) => runs::run(flags, session),
        Verb::Prune(flags) => prune::run(flags, session),
        Verb::Show(flags) => show::run(flags, session),
        Verb::Figure(flags) => figure::run(flags, session),
        Verb::Report(flags) => report::run(flags, session),
        Verb::Serve(flags) => serve::run(flags, session),
        Verb::Theory(flags) => theory::run(flags, session),
        Verb::Doctor(flags) => doctor::run(flags, session),
    }
}
