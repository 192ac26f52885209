//! What all figures share: colours, marks and dashes of arms, axes, and text that cannot become markup.

use std::fmt::Write as _;

use kuva::plot::scatter::MarkerShape;
use kuva::render::color::Color;
use kuva::render::layout::TickFormat;
use kuva::render::render::{PathData, Primitive};
use ttf_parser::Face;

use super::{label, svg};

/// Okabe and Ito's colours that stand out on white, the darkest first.
const COLOURS: [&str; 7] =
    ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9"];
/// Where nothing else is said.
pub(super) const GREY: &str = "#767676";
/// Size of the letters at ticks.
pub(super) const TICK_SIZE: u32 = 11;
/// Marks that differ in outline, so that they do in grey.
const MARKS: [MarkerShape; 8] = [
    MarkerShape::Circle,
    MarkerShape::Square,
    MarkerShape::Triangle,
    MarkerShape::Diamond,
    MarkerShape::TriangleDown,
    MarkerShape::Pentagon,
    MarkerShape::Star,
    MarkerShape::Hexagon,
];
/// Dashes, none first.
const DASHES: [Option<&str>; 4] = [None, Some("8 4"), Some("2 3"), Some("9 3 2 3")];
/// Characters of an arm's name in a legend or beside an axis.
pub(super) const NAME_WIDTH: usize = 34;

/// How an arm looks.
#[derive(Clone)]
pub(super) struct Look {
    pub(super) colour: &'static str,
    pub(super) mark: MarkerShape,
    pub(super) dash: Option<&'static str>,
}

impl Look {
    /// The look of the arm that comes at this place. Colours and marks repeat after different numbers, so
    /// that 56 arms look different.
    pub(super) fn of(idx: usize) -> Self {
        Self {
            colour: COLOURS[idx % COLOURS.len()],
            mark: MARKS[idx % MARKS.len()],
            dash: DASHES[idx % DASHES.len()],
        }
    }

    /// Its mark as a shape, filled or hollow.
    pub(super) fn shape(
        &self,
        (x, y): (f64, f64),
        size: f64,
        colour: &str,
        hollow: bool,
    ) -> Primitive {
        let (fill, edge, width) = match hollow {
            true => {
                (Color::from("#ffffff"), Some(Color::from(colour)), (size * 0.35).clamp(0.4, 1.6))
            }
            false => (Color::from(colour), None, 0.0),
        };
        let (n, turned, inner) = match self.mark {
            MarkerShape::Square => (4, 0.125, None),
            MarkerShape::Triangle => (3, 0.0, None),
            MarkerShape::Diamond => (4, 0.0, None),
            MarkerShape::TriangleDown => (3, 0.5, None),
            MarkerShape::Pentagon => (5, 0.0, None),
            MarkerShape::Star => (5, 0.0, Some(0.45)),
            MarkerShape::Hexagon => (6, 0.0, None),
            _ => {
                let stroke_width = edge.is_some().then_some(width);
                let stroke = edge;
                return Primitive::Circle {
                    cx: x,
                    cy: y,
                    r: size,
                    fill,
                    fill_opacity: None,
                    stroke,
                    stroke_width,
                };
            }
        };
        // Of about the area of the circle, so that no arm looks larger than another.
        let radius = size * if inner.is_some() { 1.35 } else { 1.2 };
        let n_corners = if inner.is_some() { 2 * n } else { n };
        let mut d = String::with_capacity(n_corners * 16);
        for corner in 0..n_corners {
            let share = corner as f64 / n_corners as f64 + turned;
            let radius = if corner % 2 == 1 { radius * inner.unwrap_or(1.0) } else { radius };
            let (sin, cos) = (share * std::f64::consts::TAU).sin_cos();
            let command = if corner == 0 { 'M' } else { 'L' };
            // Writing to a string cannot fail.
            write!(d, "{command} {:.2} {:.2} ", x + radius * sin, y - radius * cos)
                .unwrap_or_default();
        }
        d.push('Z');
        let (fill, stroke) = (Some(fill), edge.unwrap_or(Color::None));
        let (stroke_width, opacity, stroke_dasharray) = (width, None, None);
        Primitive::Path(Box::new(PathData {
            d,
            fill,
            stroke,
            stroke_width,
            opacity,
            stroke_dasharray,
        }))
    }
}

/// A colour half way to white.
pub(super) fn faint(colour: &str) -> String {
    let half = |from: usize| {
        let part = colour.get(from..from + 2).and_then(|it| u32::from_str_radix(it, 16).ok());
        part.unwrap_or(0x76).midpoint(0xff)
    };
    format!("#{:02x}{:02x}{:02x}", half(1), half(3), half(5))
}

/// How wide a text is in the figures' font.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    let face = Face::parse(svg::FONT, 0).expect("the built-in font is one");
    let advance = |c: char| {
        let glyph = face.glyph_index(c)?;
        face.glyph_hor_advance(glyph)
    };
    let units: f64 = text.chars().map(|c| f64::from(advance(c).unwrap_or(1200))).sum();
    units * size / f64::from(face.units_per_em())
}

/// A text of a record as the library may have it: no control character, and no `$`, which would begin a
/// formula.
pub(super) fn shown(text: &str, width: usize) -> String {
    label(text, width).replace('$', "\\$")
}

/// A logarithmic axis of rates with a place for zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LogAxis {
    /// The lowest power of ten that is drawn.
    lowest: f64,
    /// Where zero stands; none if nothing is zero.
    zero: Option<f64>,
    /// The upper end.
    highest: f64,
}

impl LogAxis {
    /// The axis on which these rates and the ends of their intervals have a place.
    ///
    /// The least rate decides how far down the axis goes, with at most two powers of ten more for its interval.
    pub(super) fn of(rates: &[f64], ends: &[f64]) -> Self {
        let positive = |x: &&f64| x.is_finite() && **x > 0.0;
        let least = rates.iter().chain(ends.iter()).filter(positive).copied().fold(1.0, f64::min);
        let least_rate = rates.iter().filter(positive).copied().fold(f64::INFINITY, f64::min);
        let largest = rates.iter().chain(ends).filter(positive).copied().fold(0.0, f64::max);
        // The exact interval around a single error ends at a fortieth of the rate: a hundredth has room for it.
        let floor = if least_rate.is_finite() { least.max(least_rate / 100.0) } else { least };
        let lowest = floor.log10().floor().clamp(-300.0, -1.0);
        let highest = largest.max(f64::MIN_POSITIVE).log10().ceil().clamp(lowest + 1.0, 0.0);
        let has_zero = rates.iter().any(|rate| *rate <= 0.0);
        Self { lowest, zero: has_zero.then_some(lowest - 1.0), highest }
    }

    /// The axis around numbers that are no rates, all above zero.
    pub(super) fn around(low: f64, high: f64) -> Self {
        Self { lowest: low.log10().floor(), zero: None, highest: high.log10().ceil() }
    }

    /// The place of a rate; what is below the axis stands at its lower end.
    pub(super) fn place(&self, rate: f64) -> f64 {
        if rate > 0.0 { rate.log10().max(self.lowest) } else { self.zero.unwrap_or(self.lowest) }
    }

    /// Both ends, with room for the marks.
    pub(super) fn range(&self) -> [f64; 2] {
        [self.zero.map_or(self.lowest - 0.15, |zero| zero - 0.35), self.highest + 0.15]
    }

    /// The line of zero, if there is one.
    pub(super) fn zero(&self) -> Option<f64> {
        self.zero
    }

    /// Where the logarithmic part begins.
    pub(super) fn lowest(&self) -> f64 {
        self.lowest
    }

    /// Twos and fives between the powers of ten, of an axis of no more than two of them.
    pub(super) fn between_powers(&self) -> Vec<(f64, String)> {
        if self.highest - self.lowest > 2.0 {
            return Vec::new();
        }
        let [low, high] = self.range();
        let mut found = Vec::new();
        let mut power = self.lowest;
        while power < high {
            for digit in [2.0_f64, 5.0] {
                let at = power + digit.log10();
                if at > low && at < high {
                    let number = digit * 10_f64.powf(power);
                    found.push((at, short(digit, power, number)));
                }
            }
            power += 1.0;
        }
        found
    }

    /// Powers of ten between two ticks, so that there are not too many.
    pub(super) fn step(&self) -> f64 {
        // The line of zero keeps its own tick only if every power of ten has one.
        if self.highest - self.lowest > 12.0 { 2.0 } else { 1.0 }
    }

    /// What stands at a tick.
    pub(super) fn ticks(&self) -> TickFormat {
        let Self { lowest, zero, .. } = *self;
        TickFormat::Custom(std::sync::Arc::new(move |at: f64| match zero {
            Some(zero) if (at - zero).abs() < 1e-6 => "0".to_owned(),
            _ if at < lowest - 1e-6 => String::new(),
            _ => power_of_ten(at),
        }))
    }
}

/// `0.02`, `5`, `2e-4`: a digit at a power of ten.
fn short(digit: f64, power: f64, number: f64) -> String {
    match number {
        number if (1e-3..1.0).contains(&number) => crate::number::significant(number, 1),
        number if (1.0..1e4).contains(&number) => format!("{number:.0}"),
        _ => format!("{digit}e{power:.0}"),
    }
}

fn power_of_ten(exponent: f64) -> String {
    match exponent.round() {
        exponent if (exponent - 0.0).abs() < 0.5 => "1".to_owned(),
        exponent if (exponent - 1.0).abs() < 0.5 => "10".to_owned(),
        exponent if (exponent - 2.0).abs() < 0.5 => "100".to_owned(),
        exponent if (exponent + 1.0).abs() < 0.5 => "0.1".to_owned(),
        exponent if (exponent + 2.0).abs() < 0.5 => "0.01".to_owned(),
        exponent => format!("1e{exponent:.0}"),
    }
}

/// Ticks of counts: digits grouped as on every page.
pub(super) fn steps() -> TickFormat {
    TickFormat::Custom(std::sync::Arc::new(|at: f64| {
        if at < 0.0 || at.fract().abs() > 1e-9 {
            return String::new();
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked above"
        )]
        crate::number::count(at as u64)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_has_a_line_below_the_lowest_power_of_ten() {
        let axis = LogAxis::of(&[0.0, 3e-4, 0.2], &[0.0, 1e-4, 5e-4, 0.3]);
        assert_eq!((axis.lowest(), axis.zero()), (-4.0, Some(-5.0)));
        assert!((axis.place(0.1) + 1.0).abs() < 1e-12);
        assert!((axis.place(0.0) + 5.0).abs() < 1e-12);
        let ticks = axis.ticks();
        let words: Vec<String> =
            [-5.0, -4.0, -2.0, -1.0, 0.0].into_iter().map(|at| ticks.format(at)).collect();
        assert_eq!(words, ["0", "1e-4", "0.01", "0.1", "1"]);
    }

    #[test]
    fn no_zero_no_line_and_all_zero_no_trouble() {
        let axis = LogAxis::of(&[0.5, 0.25], &[0.2, 0.6]);
        assert_eq!((axis.lowest(), axis.zero(), axis.range()), (-1.0, None, [-1.15, 0.15]));
        // The lower end of an interval that begins at zero is drawn to the lower end of the axis.
        assert!((axis.place(0.0) + 1.0).abs() < 1e-12);
        let axis = LogAxis::of(&[0.0, 0.0], &[0.0, 1e-4, 0.0, 1e-4]);
        assert!(axis.zero().is_some() && axis.range()[0] < axis.range()[1]);
        let axis = LogAxis::of(&[], &[]);
        assert!(axis.range()[0] < axis.range()[1]);
    }

    #[test]
    fn a_short_axis_has_twos_and_fives() {
        let between =
            |axis: LogAxis| axis.between_powers().into_iter().map(|it| it.1).collect::<Vec<_>>();
        assert_eq!(between(LogAxis::of(&[0.2, 0.3], &[])), ["0.2", "0.5"]);
        assert_eq!(between(LogAxis::of(&[0.02, 0.3], &[])), ["0.02", "0.05", "0.2", "0.5"]);
        assert_eq!(between(LogAxis::of(&[0.002, 0.3], &[])), [""; 0]);
        assert_eq!(between(LogAxis::around(2.0, 90.0)), ["2", "5", "20", "50"]);
        assert_eq!(between(LogAxis::around(2e-5, 9e-5)), ["2e-5", "5e-5"]);
    }

    #[test]
    fn arms_look_different_by_colour_and_mark() {
        let looks: std::collections::BTreeSet<String> =
            (0..56).map(Look::of).map(|it| format!("{}{:?}", it.colour, it.mark)).collect();
        assert_eq!(looks.len(), 56);
    }

    #[test]
    fn a_faint_colour_is_half_way_to_white() {
        assert_eq!([faint("#0072B2"), faint("#000000")], ["#7fb8d8", "#7f7f7f"]);
    }

    #[test]
    fn arms_can_be_told_apart_in_grey() {
        // What a grey print leaves of Okabe and Ito's colours, by Rec. 601; those too near differ in mark and dash.
        let grey = |colour: &str| {
            let part = |from| f64::from(u8::from_str_radix(&colour[from..from + 2], 16).unwrap());
            0.299 * part(1) + 0.587 * part(3) + 0.114 * part(5)
        };
        for one in 0..8 {
            // Nothing is so light that it cannot be seen on white.
            assert!(grey(Look::of(one).colour) < 180.0);
            for other in 0..one {
                let (one, other) = (Look::of(one), Look::of(other));
                let alike = (grey(one.colour) - grey(other.colour)).abs() < 12.0;
                assert!(!alike || (one.mark != other.mark && one.dash != other.dash));
            }
        }
    }

    #[test]
    fn a_text_is_as_wide_as_its_letters() {
        assert!((text_width("mm", 12.0) - 2.0 * text_width("m", 12.0)).abs() < 1e-9);
        assert!(text_width("i", 12.0) < text_width("m", 12.0));
    }

    #[test]
    fn a_label_holds_no_formula_and_no_line_break() {
        assert_eq!(shown("a$x^2$\nb", 20), "a\\$x^2\\$\u{fffd}b");
    }
}
