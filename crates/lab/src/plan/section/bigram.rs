//! The bigram language in `[task]`, and in an evaluation set of a model that is trained on it.

use mnemoscope_task::Bigram;
use mnemoscope_task::bigram::{Occurrences, OutputSplit, Outputs, Triggers};

use crate::plan::reader::Section;

/// The keys that say what a bigram language is; a set of one's own has at least one of them.
pub(super) const KEYS: [&str; 10] = [
    "name",
    "seq_len",
    "triggers",
    "n_triggers",
    "offset",
    "outputs",
    "output_split",
    "no_repeat",
    "scored",
    "show_latents",
];

/// The language that a table describes; what it leaves out is as in `base`.
pub(super) fn read(section: &mut Section<'_, '_>, base: &Bigram) -> Bigram {
    Bigram {
        corpus: section.corpus_if_given("corpus").unwrap_or_else(|| base.corpus.clone()),
        seq_len: section.whole32("seq_len", base.seq_len, 0),
        triggers: section.choice(
            "triggers",
            &[("random", Triggers::Random), ("fixed", Triggers::Fixed)],
            base.triggers,
        ),
        n_triggers: section.whole32("n_triggers", base.n_triggers, 0),
        offset: section.whole32("offset", base.offset, 0),
        outputs: section.choice(
            "outputs",
            &[("uniform", Outputs::Uniform), ("bigram", Outputs::Bigram)],
            base.outputs,
        ),
        output_split: section.choice(
            "output_split",
            &[
                ("all", OutputSplit::All),
                ("train", OutputSplit::Train),
                ("test", OutputSplit::Test),
            ],
            base.output_split,
        ),
        no_repeat: section.flag("no_repeat", base.no_repeat),
        scored: section.choice(
            "scored",
            &[
                ("in_context", Occurrences::InContext),
                ("output", Occurrences::Output),
                ("first", Occurrences::First),
                ("global", Occurrences::Global),
            ],
            base.scored,
        ),
        show_latents: section.flag("show_latents", base.show_latents),
    }
}
