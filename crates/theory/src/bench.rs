//! The theory bench: every part of the theory as checks, in a quick and in a full size.

use mnemoscope_stats::stream::Stream;

use crate::check::Check;
use crate::hand_built::Width;
use crate::one_step::POINTS;
use crate::three_steps::Row;
use crate::{
    coefficients, extension, flip_flop, geometry, gradient, hand_built, noise, one_step,
    three_steps,
};

/// How much is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// A few seconds, in a build without optimisation too.
    Quick,
    /// Every published size that one processor does in a minute.
    Full,
}

/// A part of the theory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Gradients against automatic differentiation.
    Gradients,
    /// What each gradient step stores.
    Coefficients,
    /// The theorem end to end.
    ThreeSteps,
    /// The head written down.
    HandBuilt,
    /// Random vectors and maps.
    Geometry,
    /// Factorised memories and memories in an MLP.
    Extensions,
    /// Signal and noise.
    Noise,
    /// One gradient step from few batches.
    OneStep,
    /// The Transformer that never misreads.
    FlipFlop,
}

impl Part {
    /// All parts, in the order of the papers' arguments.
    pub const ALL: [Self; 9] = [
        Self::Gradients,
        Self::Coefficients,
        Self::ThreeSteps,
        Self::HandBuilt,
        Self::Geometry,
        Self::Extensions,
        Self::Noise,
        Self::OneStep,
        Self::FlipFlop,
    ];

    /// A short name, for programs and for the addresses of what is drawn.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gradients => "gradients",
            Self::Coefficients => "coefficients",
            Self::ThreeSteps => "three_steps",
            Self::HandBuilt => "hand_built",
            Self::Geometry => "geometry",
            Self::Extensions => "extensions",
            Self::Noise => "noise",
            Self::OneStep => "one_step",
            Self::FlipFlop => "flip_flop",
        }
    }

    /// A heading for people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Gradients => "Gradients: the formula beside automatic differentiation",
            Self::Coefficients => "What three gradient steps store, in the theorem's units",
            Self::ThreeSteps => "Three gradient steps make an induction head",
            Self::HandBuilt => "The induction head written down",
            Self::Geometry => "Random vectors and maps",
            Self::Extensions => "Memories in two factors and in an MLP",
            Self::Noise => "Signal and noise, by width and by examples",
            Self::OneStep => "Recall after one gradient step",
            Self::FlipFlop => "The Transformer that never misreads, written down",
        }
    }

    /// The checks of this part.
    ///
    /// # Randomness
    ///
    /// The stream `theory`, then the part's name, of `seed`.
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_theory::bench::{Effort, Part};
    ///
    /// let checks = Part::Geometry.checks(Effort::Quick, 0);
    /// assert!(checks.len() > 3 && checks.iter().all(|check| check.holds()));
    /// ```
    #[must_use]
    pub fn checks(self, effort: Effort, seed: u64) -> Vec<Check> {
        let stream = Stream::root(seed).derive("theory").derive(self.name());
        let quick = effort == Effort::Quick;
        let n = |in_quick, in_full| if quick { in_quick } else { in_full };
        match self {
            Self::Gradients => gradient::checks(&stream),
            Self::Coefficients => {
                let more = n(1, 10) as u64;
                let sizes =
                    [(65, 32, 20_000 * more), (65, 64, 40_000 * more), (65, 256, 20_000 * more)];
                coefficients::checks(&sizes[..n(2, 3)], &stream)
            }
            Self::ThreeSteps => {
                three_steps::checks(&THEOREM[..n(2, 4)], n(1, 3) as u64, 1_500, &stream)
            }
            Self::HandBuilt => {
                let mut checks = hand_built::random_checks(
                    &WIDTHS[..n(2, 4)],
                    n(1, 3) as u64,
                    n(6, 16) as u64,
                    &stream.derive("random"),
                );
                let d_model = n(256, 2048);
                let n_examples = n(4, 48) as u64;
                checks.push(hand_built::crosstalk_check(
                    d_model,
                    n_examples,
                    &stream.derive("crosstalk"),
                ));
                let stream = stream.derive("orthonormal");
                checks.extend(hand_built::orthonormal_checks(n_examples, &stream));
                checks
            }
            Self::Geometry => geometry::checks(128, 1_000, n(60, 400) as u64, &stream),
            Self::Extensions => extension::checks(256, n(4, 20) as u64, &stream),
            Self::Noise => noise::checks(&ILLUSTRATIVE[..n(2, 4)], n(10, 30) as u64, &stream),
            Self::OneStep => {
                let points: Vec<_> =
                    POINTS.into_iter().filter(|point| !quick || point.d_model <= 256).collect();
                one_step::checks(&points, n(10, 20) as u64, &stream)
            }
            Self::FlipFlop => flip_flop::checks(n(10, 200) as u64, &stream),
        }
    }
}

/// The theorem's table: sizes, examples for each step, right answers after each step.
const THEOREM: [Row; 4] = [
    Row { d_vocab: 65, seq_len: 32, n_examples: 20_000, published: [0.077, 0.035, 0.027, 0.981] },
    Row { d_vocab: 65, seq_len: 64, n_examples: 40_000, published: [0.078, 0.107, 0.042, 0.995] },
    Row { d_vocab: 256, seq_len: 64, n_examples: 100_000, published: [0.042, 0.027, 0.011, 0.993] },
    Row { d_vocab: 65, seq_len: 256, n_examples: 20_000, published: [0.025, 0.029, 0.027, 0.995] },
];

/// The hand-built head on random embeddings, by width.
const WIDTHS: [Width; 4] = [
    Width {
        d_model: 128,
        tolerance: 0.25,
        previous: [0.80, 0.79],
        fixed: [0.64, 0.62],
        random: [0.53, 0.43],
    },
    Width {
        d_model: 256,
        tolerance: 0.08,
        previous: [0.998, 1.0],
        fixed: [0.92, 0.94],
        random: [0.94, 0.94],
    },
    Width {
        d_model: 512,
        tolerance: 0.04,
        previous: [1.0, 1.0],
        fixed: [0.99, 0.98],
        random: [1.0, 0.995],
    },
    Width {
        d_model: 1024,
        tolerance: 0.04,
        previous: [1.0, 1.0],
        fixed: [0.997, 0.994],
        random: [0.99, 0.97],
    },
];

/// Right answers of the illustrative example after one step, by width.
const ILLUSTRATIVE: [(usize, f64, [f64; 2]); 4] = [
    (64, 0.887, [0.85, 0.92]),
    (128, 1.0, [0.99, 1.0]),
    (256, 1.0, [0.99, 1.0]),
    (1024, 1.0, [0.99, 1.0]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_exactly_and_another_one_does_not() {
        let checks = |seed| Part::Geometry.checks(Effort::Quick, seed);
        assert_eq!(checks(1), checks(1));
        assert_ne!(checks(1), checks(2));
    }

    #[test]
    fn every_part_has_a_name_and_a_heading_of_its_own() {
        for part in Part::ALL {
            let same = Part::ALL
                .into_iter()
                .filter(|other| other.name() == part.name() || other.title() == part.title());
            assert_eq!(same.count(), 1, "{part:?}");
        }
    }
}
