//! The state of a training run as bytes that nothing can execute.

use std::collections::BTreeMap;

use mnemoscope_model::params::{Tensors, from_safetensors, to_safetensors};
use mnemoscope_stats::stream::Stream;

use crate::{Error, ErrorKind};

/// Version of what is inside; docs/formats.md describes it.
const FORMAT: &str = "1";
const PARAMS: &str = "params.";
const OPTIM: &str = "optim.";

/// Parameters, optimiser state, the address of the data and the step, as one safetensors file.
///
/// No time and no place is inside: the same plan gives the same bytes, and so the same hash.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Id of the plan it belongs to.
    pub plan: String,
    /// Steps taken.
    pub step: u64,
    /// The training stream; the next step reads where [`TrainPlan::first_index`](crate::plan::TrainPlan::first_index)
    /// says.
    pub stream: Stream,
    /// The model's parameters by name.
    pub params: Tensors,
    /// The optimiser's moments by name.
    pub optim: Tensors,
}

impl Checkpoint {
    /// The file's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut all = Tensors::default();
        all.extend_prefixed(PARAMS, &self.params);
        all.extend_prefixed(OPTIM, &self.optim);
        let metadata = BTreeMap::from([
            ("mnemoscope.checkpoint".to_owned(), FORMAT.to_owned()),
            ("plan".to_owned(), self.plan.clone()),
            ("step".to_owned(), self.step.to_string()),
            ("train_stream".to_owned(), self.stream.address()),
        ]);
        to_safetensors(&all, &metadata)
    }

    /// Reads a file's bytes back.
    ///
    /// # Errors
    ///
    /// `Corrupt`, if the bytes are no safetensors file or lack one of our fields; `Incompatible`,
    /// if a newer release wrote them.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let (all, metadata) = from_safetensors(bytes)?;
        let field = |name: &str| {
            metadata.get(name).ok_or_else(|| {
                Error::new(ErrorKind::Corrupt, format!("the checkpoint has no field `{name}`"))
            })
        };
        let format = field("mnemoscope.checkpoint")?;
        if format != FORMAT {
            return Err(Error::new(
                ErrorKind::Incompatible,
                format!(
                    "the checkpoint has format {format}, this release reads {FORMAT}; see docs/formats.md"
                ),
            ));
        }
        let broken = |name: &str| {
            Error::new(ErrorKind::Corrupt, format!("the checkpoint's field `{name}` is damaged"))
        };
        Ok(Self {
            plan: field("plan")?.clone(),
            step: field("step")?.parse().ok().ok_or_else(|| broken("step"))?,
            stream: Stream::from_address(field("train_stream")?)
                .ok_or_else(|| broken("train_stream"))?,
            params: all.strip_prefix(PARAMS),
            optim: all.strip_prefix(OPTIM),
        })
    }

    /// Checks that the checkpoint belongs to a plan.
    ///
    /// # Errors
    ///
    /// `Incompatible`, with both ids.
    pub fn check_plan(&self, plan: &str) -> Result<(), Error> {
        if self.plan == plan {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Incompatible,
            format!("the checkpoint belongs to plan {}, the run executes plan {plan}", self.plan),
        ))
    }
}
