//! A study: a question, arms of plans, and what is claimed about them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Claim, Plan, Published};

/// Everything one spec resolves to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Study {
    /// What the study asks, in words.
    pub question: Option<String>,
    /// What to call it: the spec's `name`, else the name of its folder or file.
    pub name: String,
    /// Its arms, in the order of the spec; never empty.
    pub arms: Vec<Arm>,
    /// What is claimed, in the order of the spec.
    pub claims: Vec<Claim>,
    /// Published curves, in the order of the spec.
    pub published: Vec<Published>,
}

/// Plans that differ only in seeds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Arm {
    /// The name in the spec, with the swept values added where a sweep made several arms of one.
    pub name: String,
    /// One plan for each seed; never empty.
    pub plans: Vec<Plan>,
}

impl Study {
    /// Every plan with the name of its arm, in the order in which they are run.
    pub fn plans(&self) -> impl Iterator<Item = (&str, &Plan)> {
        self.arms.iter().flat_map(|arm| arm.plans.iter().map(|plan| (arm.name.as_str(), plan)))
    }

    /// What may not be meant and is no mistake either, each in a sentence: arms that are trained on
    /// sequences of different lengths, which an arm of another kind of task easily is.
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_lab::plan::resolve;
    ///
    /// let spec = "[task]\nseq_len = 128\n[[arm]]\nname = 'one'\n[[arm]]\nname = 'other'\n\
    ///             task = { name = 'mixture', parts = [{ weight = 1, p_ignore = 0.8 }] }";
    /// let said = resolve(spec, None, &[], None)?.warnings();
    /// assert_eq!(said.len(), 1);
    /// assert!(said[0].starts_with("arms differ in task.seq_len: 128 of one, 512 of other;"));
    /// # Ok::<(), mnemoscope_lab::Error>(())
    /// ```
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        /// More arms than this are not listed: they are those of a sweep.
        const MOST: usize = 4;
        let seq_len = |plan: &Plan| match plan.task.flipflop() {
            Some(language) => language.seq_len as usize,
            None => plan.task.seq_len(),
        };
        let mut lengths: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
        for arm in &self.arms {
            for plan in arm.plans.iter().take(1) {
                lengths.entry(seq_len(plan)).or_default().push(&arm.name);
            }
        }
        if lengths.len() < 2 {
            return Vec::new();
        }
        let words = |(length, arms): (&usize, &Vec<&str>)| {
            let more = arms.len().saturating_sub(MOST);
            let listed = arms[..arms.len() - more].join(", ");
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("{length} of {listed}{more}")
        };
        let listed: Vec<String> = lengths.iter().map(words).collect();
        vec![format!(
            "arms differ in task.seq_len: {}; an arm whose task becomes another kind starts afresh, so that \
             it has to say seq_len itself",
            listed.join(", ")
        )]
    }
}
