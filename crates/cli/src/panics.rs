//! What a GPU's own thread says when it fails.
//!
//! CubeCL has a thread for each device, in which every task panics that comes behind one that failed, as where memory is
//! short: thousands of them. The run whose work it was ends as crashed, or is tried again beside fewer others, and says so.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::Mutex;

/// How such threads are called.
const PREFIX: &str = "DSD-";

/// Lets them say each kind of failure once, in a line.
pub(crate) fn of_devices_once() {
    let (usual, said) = (std::panic::take_hook(), Mutex::new(BTreeSet::new()));
    std::panic::set_hook(Box::new(move |panic| {
        if !std::thread::current().name().is_some_and(|name| name.starts_with(PREFIX)) {
            return usual(panic);
        }
        let words = panic.payload_as_str().and_then(|words| words.lines().next());
        let words = words.unwrap_or("no words");
        let is_new = said.lock().is_ok_and(|mut said| said.insert(kind(words)));
        if is_new {
            drop(writeln!(std::io::stderr().lock(), "the thread of the GPU failed: {words}"));
        }
    }));
}

/// Words without their numbers.
fn kind(words: &str) -> String {
    words.chars().filter(|letter| !letter.is_ascii_digit()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_that_differ_in_a_number_are_of_one_kind() {
        let of_bytes = |n: u64| kind(&format!("can't allocate buffer of size: {n}"));
        assert_eq!(of_bytes(587_202_560), of_bytes(12));
        assert_ne!(of_bytes(12), kind("Memory page 0 doesn't exist"));
    }
}
