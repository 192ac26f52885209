//! One part of a model as the hooks see it: points named from the part's own place.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use super::{Hooks, Value};

/// The hooks, and the prefix of the names of the part that is being computed.
pub(crate) struct Site<'h, B: Backend> {
    hooks: &'h mut dyn Hooks<B>,
    prefix: String,
}

impl<'h, B: Backend> Site<'h, B> {
    pub(crate) fn root(hooks: &'h mut dyn Hooks<B>) -> Self {
        Self { hooks, prefix: String::new() }
    }

    /// The same hooks seen from `blocks.{layer}.` or the like.
    pub(crate) fn within(&mut self, prefix: &str) -> Site<'_, B> {
        Site { hooks: &mut *self.hooks, prefix: format!("{}{prefix}", self.prefix) }
    }

    fn name(&self, point: &str) -> String {
        format!("{}{point}", self.prefix)
    }

    pub(crate) fn wants(&self, point: &str) -> bool {
        self.hooks.wants(&self.name(point))
    }

    pub(crate) fn replaces(&self, point: &str) -> bool {
        self.hooks.replaces(&self.name(point))
    }

    /// Whether the hooks leave these points alone.
    pub(crate) fn ignores(&self, points: &[&str]) -> bool {
        points.iter().all(|point| !self.wants(point) && !self.replaces(point))
    }

    /// Hands over what `compute` gives, if anybody wants it. Nothing the model uses is touched.
    pub(crate) fn read<const D: usize>(
        &mut self,
        point: &str,
        compute: impl FnOnce() -> Tensor<B, D>,
    ) {
        let name = self.name(point);
        if self.hooks.wants(&name) {
            self.hooks.read(&name, Value::from(compute()));
        }
    }

    /// Lets the hooks replace a value, then read it, at a point where both are possible.
    ///
    /// # Panics
    ///
    /// If the replacement has another shape.
    pub(crate) fn pass<const D: usize>(
        &mut self,
        point: &str,
        value: Tensor<B, D>,
    ) -> Tensor<B, D> {
        let name = self.name(point);
        let value = if self.hooks.replaces(&name) {
            let dims = value.dims();
            let replaced = self.hooks.replace(&name, Value::from(value)).tensor::<D>();
            assert_eq!(replaced.dims(), dims, "the replacement at `{name}` has another shape");
            replaced
        } else {
            value
        };
        if self.hooks.wants(&name) {
            self.hooks.read(&name, Value::from(value.clone()));
        }
        value
    }
}
