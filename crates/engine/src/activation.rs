//! Activation functions, by name.

/// Which form of the Gaussian error linear unit.
///
/// The two differ by up to 5e-4; a model trained with one must be evaluated with the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gelu {
    /// `x / 2 * (1 + erf(x / sqrt(2)))`: PyTorch's default, and x-transformers'.
    Erf,
    /// `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`: GPT-2's.
    Tanh,
}

/// The function of the gate in a gated linear unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// `1 / (1 + e^-x)`: the unit is GLU.
    Sigmoid,
    /// `max(x, 0)`: the unit is ReGLU.
    Relu,
    /// GELU: the unit is GeGLU.
    Gelu(Gelu),
    /// `x / (1 + e^-x)`: the unit is SwiGLU.
    Silu,
}

/// What follows a linear layer: a function of each number, or a gated linear unit.
///
/// # Shapes
///
/// A gated unit takes the product of a row in two halves, first the value, then the gate, and
/// gives `value * act(gate)`: the layer's weight is `[d_in, 2 d_out]`. That is the order of
/// x-transformers (`x, gate = proj(x).chunk(2, dim=-1); x * act(gate)`); a weight that was trained
/// with the gate first has to have its halves exchanged.
///
/// # Source
///
/// Dauphin et al., "Language Modeling with Gated Convolutional Networks", ICML 2017; Shazeer, "GLU
/// Variants Improve Transformer", 2020, arXiv:2002.05202. GELU: Hendrycks and Gimpel, "Gaussian
/// Error Linear Units", 2016, arXiv:1606.08415.
///
/// # Example
///
/// ```
/// use mnemoscope_engine::{Activation, Gate, Gelu};
///
/// let swiglu = Activation::Gated(Gate::Silu);
/// assert_eq!(swiglu.d_product(512), 1024);
/// assert_eq!(Activation::Gelu(Gelu::Erf).d_product(512), 512);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// The Gaussian error linear unit.
    Gelu(Gelu),
    /// `value * act(gate)`.
    Gated(Gate),
}

impl Activation {
    /// Whether the product holds a value and a gate for each number of the result.
    #[must_use]
    pub fn gated(self) -> bool {
        matches!(self, Self::Gated(_))
    }

    /// The width of the product that gives rows of `d_out`.
    #[must_use]
    pub fn d_product(self, d_out: usize) -> usize {
        if self.gated() { 2 * d_out } else { d_out }
    }

    /// The width of the result of a product.
    ///
    /// # Panics
    ///
    /// If a gated product does not have two halves.
    #[track_caller]
    pub(crate) fn d_out(self, d_product: usize) -> usize {
        if !self.gated() {
            return d_product;
        }
        assert!(
            d_product.is_multiple_of(2),
            "weight: [d_in, {d_product}] is not [d_in, 2 d_out], a value and a gate"
        );
        d_product / 2
    }
}
