//! What the operating system says of this process (Linux; elsewhere nothing is known).

use std::fs;

/// Ticks of the processor clock in a second, as Linux reports them to every program.
const TICKS_PER_SEC: f64 = 100.0;

/// Seconds all threads have computed so far, in steps of a hundredth; NaN where it is not known.
pub(crate) fn cpu_secs() -> f64 {
    let Ok(stat) = fs::read_to_string("/proc/self/stat") else { return f64::NAN };
    // The name of the program, in parentheses, may hold anything; user and system ticks are the
    // 12th and 13th field after it.
    let after = stat.rsplit(')').next().unwrap_or("");
    let ticks: Vec<f64> =
        after.split_whitespace().skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    if ticks.len() == 2 { ticks.iter().sum::<f64>() / TICKS_PER_SEC } else { f64::NAN }
}

/// The most memory the process has held, in bytes; nothing where it is not known.
pub(crate) fn peak_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}
