//! The laws of examples that the theory is about.
//!
//! - [`induction`]: the second occurrence of a trigger, everything else uniform (theorem 3);
//! - [`illustrative`]: a token with the noise of a position (the example of section 6);
//! - [`in_context`]: bags of tokens before the outputs of the full bigram language (figure 9).

pub mod illustrative;
pub mod in_context;
pub mod induction;
