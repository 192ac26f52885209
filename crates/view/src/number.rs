//! Numbers as people read them: grouped counts, rates with intervals, sizes, times and dates.

/// The thin space (U+2009) that groups digits: one terminal column, and no decimal sign anywhere.
pub const THIN_SPACE: char = '\u{2009}';

/// A count, its digits grouped in threes by thin spaces from five digits on.
///
/// # Example
///
/// ```
/// use mnemoscope_view::number::count;
///
/// assert_eq!(count(1_000), "1000");
/// assert_eq!(count(133_381), "133\u{2009}381");
/// ```
#[must_use]
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    // Four digits are read at a glance; ISO 80000-1 leaves them ungrouped.
    if digits.len() < 5 {
        return digits;
    }
    let mut grouped = String::with_capacity(digits.len() * 2);
    for (idx, digit) in digits.chars().enumerate() {
        if idx > 0 && (digits.len() - idx).is_multiple_of(3) {
            grouped.push(THIN_SPACE);
        }
        grouped.push(digit);
    }
    grouped
}

/// A number that is a count though it is kept as a float, such as a step of a curve, as [`count`] shows it.
pub(crate) fn whole(value: f64) -> String {
    if value < 0.0 || value.fract() != 0.0 || value > 9e15 {
        return value.to_string();
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
    count(value as u64)
}

/// `1 run`, `2 runs`: a grouped count with its noun.
///
/// # Example
///
/// ```
/// use mnemoscope_view::number::counted;
///
/// assert_eq!(counted(1, "glitch", "glitches"), "1 glitch");
/// assert_eq!(counted(3, "glitch", "glitches"), "3 glitches");
/// ```
#[must_use]
pub fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(n), if n == 1 { one } else { many })
}

/// A rate to three significant digits; below one in a thousand with an exponent.
///
/// # Example
///
/// ```
/// use mnemoscope_view::number::rate;
///
/// assert_eq!(rate(0.0), "0");
/// assert_eq!(rate(0.01253), "0.0125");
/// assert_eq!(rate(0.000_010_42), "1.04e-5");
/// ```
#[must_use]
pub fn rate(value: f64) -> String {
    if !value.is_finite() {
        return value.to_string();
    }
    // The two ends of the range are exact, and look it.
    if value == 0.0 || value.to_bits() == 1_f64.to_bits() {
        return format!("{value:.0}");
    }
    if value.abs() < 1e-3 {
        return format!("{value:.2e}");
    }
    significant(value, 3)
}

/// An interval of rates: `[0, 1.39e-4]`.
#[must_use]
pub fn interval(bounds: [f64; 2]) -> String {
    format!("[{}, {}]", rate(bounds[0]), rate(bounds[1]))
}

/// A share as a percentage without trailing zeros: `0.95` is `95 %`.
#[must_use]
pub fn percent(share: f64) -> String {
    let text = format!("{:.1}", share * 100.0);
    format!("{} %", text.strip_suffix(".0").unwrap_or(&text))
}

/// A size in bytes, in binary units to three significant digits.
///
/// # Example
///
/// ```
/// use mnemoscope_view::number::bytes;
///
/// assert_eq!(bytes(512), "512 B");
/// assert_eq!(bytes(3 << 29), "1.50 GiB");
/// ```
#[must_use]
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = to_f64(n) / 1024.0;
    let mut unit_idx = 0;
    // 999.5 and above would print as four digits.
    while value >= 999.5 && unit_idx + 1 < UNITS.len() {
        value /= 1024.0;
        unit_idx += 1;
    }
    format!("{} {}", significant(value, 3), UNITS[unit_idx])
}

/// A large quantity in decimal multiples of `unit`: `3.2e15` of `FLOP` is `3.20 PFLOP`.
///
/// # Example
///
/// ```
/// use mnemoscope_view::number::quantity;
///
/// assert_eq!(quantity(198.4e6, "tokens/s"), "198 M tokens/s");
/// assert_eq!(quantity(12.0, "tokens/s"), "12 tokens/s");
/// ```
#[must_use]
pub fn quantity(value: f64, unit: &str) -> String {
    const PREFIXES: [&str; 6] = ["k", "M", "G", "T", "P", "E"];
    // A unit with a capital is a symbol, and a symbol takes its prefix without a space.
    let gap = if unit.starts_with(char::is_uppercase) { "" } else { " " };
    if !value.is_finite() || value < 1000.0 {
        return format!("{value:.0} {unit}");
    }
    let mut scaled = value / 1000.0;
    let mut prefix_idx = 0;
    while scaled >= 999.5 && prefix_idx + 1 < PREFIXES.len() {
        scaled /= 1000.0;
        prefix_idx += 1;
    }
    format!("{} {}{gap}{unit}", significant(scaled, 3), PREFIXES[prefix_idx])
}

/// A duration: `0.8 s`, `42 s`, `3 min 20 s`, `2 h 05 min`.
///
/// # Example
///
/// ```
/// use mnemoscope_view::number::secs;
///
/// assert_eq!(secs(0.83), "0.83 s");
/// assert_eq!(secs(200.2), "3 min 20 s");
/// assert_eq!(secs(7_500.0), "2 h 05 min");
/// ```
#[must_use]
pub fn secs(value: f64) -> String {
    if !value.is_finite() || value < 0.0 {
        return format!("{value} s");
    }
    if value < 99.5 {
        return format!("{} s", if value < 1e-3 { rate(value) } else { significant(value, 2) });
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rounded, above 0")]
    let whole = value.round() as u64;
    if whole < 3600 {
        format!("{} min {:02} s", whole / 60, whole % 60)
    } else {
        format!("{} h {:02} min", count(whole / 3600), whole % 3600 / 60)
    }
}

/// A moment in seconds since 1970 as `2026-11-22 17:05 UTC`.
///
/// # Source
///
/// The days are turned into a date by Howard Hinnant's `civil_from_days` ("chrono-Compatible
/// Low-Level Date Algorithms", 2013), exact for every date of the proleptic Gregorian calendar.
///
/// # Example
///
/// ```
/// use mnemoscope_view::number::date;
///
/// assert_eq!(date(951_782_400), "2000-02-29 00:00 UTC");
/// ```
#[must_use]
pub fn date(unix_secs: u64) -> String {
    let (days, of_day) = (unix_secs / 86_400, unix_secs % 86_400);
    // Days are counted from 0000-03-01, so that the leap day is the last of its year.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute) = (of_day / 3600, of_day % 3600 / 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

/// `value` with `n_digits` significant digits and no exponent.
#[must_use]
pub fn significant(value: f64, n_digits: usize) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    // The exponent is taken after rounding, so that 0.9996 prints as 1.00 and not as 1.000.
    let scientific = format!("{value:.*e}", n_digits.saturating_sub(1));
    let exponent: i64 =
        scientific.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or(0);
    let digits_before = usize::try_from(exponent + 1).unwrap_or(0);
    let leading_zeros = usize::try_from(-exponent - 1).unwrap_or(0);
    let n_decimals = if exponent >= 0 {
        n_digits.saturating_sub(digits_before)
    } else {
        n_digits + leading_zeros
    };
    format!("{value:.n_decimals$}")
}

/// `n` as a float, for display only.
#[expect(clippy::cast_precision_loss, reason = "shown to three digits")]
pub(crate) fn to_f64(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(got: &str, expected: &str) {
        assert_eq!(got.replace(THIN_SPACE, "_"), expected);
    }

    #[test]
    fn counts_are_grouped_from_five_digits_on() {
        check(&count(0), "0");
        check(&count(9_999), "9999");
        check(&count(26_508), "26_508");
        check(&count(1_600_000), "1_600_000");
        check(&count(u64::MAX), "18_446_744_073_709_551_615");
        check(&counted(0, "run", "runs"), "0 runs");
        check(&counted(10_000, "run", "runs"), "10_000 runs");
    }

    #[test]
    fn rates_keep_three_digits_whatever_their_size() {
        check(&rate(1.0), "1");
        check(&rate(-0.0), "-0");
        check(&rate(0.5), "0.500");
        check(&rate(0.999_6), "1.00");
        check(&rate(0.001), "0.00100");
        check(&rate(0.000_999_9), "1.00e-3");
        check(&rate(2.8e-6), "2.80e-6");
        check(&rate(f64::NAN), "NaN");
        check(&interval([0.0, 0.000_139]), "[0, 1.39e-4]");
        check(&percent(0.95), "95 %");
        check(&percent(0.999), "99.9 %");
    }

    #[test]
    fn sizes_and_quantities_change_unit_before_a_fourth_digit() {
        check(&bytes(0), "0 B");
        check(&bytes(1023), "1023 B");
        check(&bytes(1024), "1.00 KiB");
        check(&bytes(1_048_575), "1.00 MiB");
        check(&bytes(u64::MAX), "16.0 EiB");
        check(&quantity(999.6, "tokens"), "1000 tokens");
        check(&quantity(999_700.0, "tokens"), "1.00 M tokens");
        check(&quantity(3.2e15, "FLOP"), "3.20 PFLOP");
    }

    #[test]
    fn durations_use_the_unit_a_person_would() {
        check(&secs(0.0), "0 s");
        check(&secs(0.000_012), "1.20e-5 s");
        check(&secs(9.94), "9.9 s");
        check(&secs(59.7), "60 s");
        check(&secs(99.5), "1 min 40 s");
        check(&secs(3_599.6), "1 h 00 min");
        check(&secs(f64::NAN), "NaN s");
    }

    #[test]
    fn dates_survive_leap_years_and_the_end_of_centuries() {
        check(&date(0), "1970-01-01 00:00 UTC");
        check(&date(68_169_599), "1972-02-28 23:59 UTC");
        check(&date(68_169_600), "1972-02-29 00:00 UTC");
        check(&date(1_704_067_199), "2023-12-31 23:59 UTC");
        check(&date(4_107_542_400), "2100-03-01 00:00 UTC");
    }
}
