//! A study: a question, arms of plans, and what is claimed about them.

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
}
