//! Sizes of params and gradients.
//!
//! Euclidean norms over all numbers of a param, of the gradient before the step and of the param after
//! it, as the authors' code logs them. A param that is frozen at the step has no gradient.

use std::collections::BTreeMap;

use mnemoscope_model::params::Tensors;
use serde::{Deserialize, Serialize};

/// Norms by the name of the param.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Norms {
    /// Of the gradients, before the step and before clipping.
    pub grad: BTreeMap<String, f64>,
    /// Of the params that have a gradient, after the step.
    pub param: BTreeMap<String, f64>,
}

impl Norms {
    /// The norms of those params that have a gradient.
    #[must_use]
    pub fn of(grad: BTreeMap<String, f64>, params: &Tensors) -> Self {
        let norm = |name: &String| {
            let data = &params.get(name)?.data;
            Some(data.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt())
        };
        let param = grad.keys().filter_map(|name| Some((name.clone(), norm(name)?))).collect();
        Self { grad, param }
    }
}
