//! A run as TensorBoard reads it: an event file of scalars.
//!
//! ```text
//! file   = record*                            a record for each event
//! record = length: u64  crc(length): u32  data  crc(data): u32       little-endian
//! event  = wall_time: double = 1, step: int64 = 2, file_version: string = 3, summary = 5
//! ```
//!
//! Events are protocol buffers, checksums CRC-32C, masked. Losses become `loss`, points of learning curves
//! `error_rate/SET`, the final measurements `final/SET/error_rate` with both ends of their interval.
//!
//! # Source
//!
//! TensorFlow's `event.proto`, `summary.proto` and record format.

use mnemoscope_store::RunReader;
use serde_json::Value;

/// A number of a run at a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Scalar {
    /// What it is.
    pub tag: String,
    /// Steps taken.
    pub step: u64,
    /// The number.
    pub value: f64,
}

/// Every number of a run that has a place on an axis of steps, in the order in which they were recorded.
#[must_use]
pub fn scalars(run: &RunReader) -> Vec<Scalar> {
    let mut scalars = Vec::new();
    for event in run.events().live() {
        let step = event.data["step"].as_u64();
        match (event.kind.as_str(), step) {
            ("loss", Some(step)) => {
                if let Some(value) = event.data["loss_nats"].as_f64() {
                    scalars.push(Scalar { tag: "loss".to_owned(), step, value });
                }
            }
            ("curve", Some(step)) => {
                let numbers = (event.data["n_errors"].as_f64(), event.data["n_trials"].as_f64());
                if let ((Some(errors), Some(trials)), Some(set)) =
                    (numbers, event.data["set"].as_str())
                    && trials > 0.0
                {
                    let tag = format!("error_rate/{set}");
                    scalars.push(Scalar { tag, step, value: errors / trials });
                }
            }
            _ => {}
        }
    }
    let none = Value::Null;
    let result = run.result().unwrap_or(&none);
    let step = result["train"]["n_steps"].as_u64().unwrap_or(0);
    for (set, measured) in result["eval"].as_object().into_iter().flatten() {
        let numbers = [
            ("error_rate", &measured["error_rate"]),
            ("interval_low", &measured["interval"][0]),
            ("interval_high", &measured["interval"][1]),
        ];
        for (name, number) in numbers {
            if let Some(value) = number.as_f64() {
                scalars.push(Scalar { tag: format!("final/{set}/{name}"), step, value });
            }
        }
    }
    scalars
}

/// The bytes of an event file, to be named `events.out.tfevents.SECS.HOST`.
///
/// # Arguments
///
/// - `wall_secs`: the time that all events carry, in seconds since 1970; the record keeps none for each.
///
/// # Example
///
/// ```
/// use mnemoscope_view::tensorboard::{Scalar, event_file};
///
/// let loss = Scalar { tag: "loss".into(), step: 10, value: 0.5 };
/// let bytes = event_file(&[loss], 1_790_000_000.0);
/// // A record that says the version, then one for the number.
/// assert!(bytes.windows(13).any(|word| word == b"brain.Event:2"));
/// ```
#[must_use]
pub fn event_file(scalars: &[Scalar], wall_secs: f64) -> Vec<u8> {
    let mut file = Vec::new();
    let mut version = Vec::new();
    double(&mut version, 1, wall_secs);
    bytes(&mut version, 3, b"brain.Event:2");
    record(&mut file, &version);
    for scalar in scalars {
        let mut value = Vec::new();
        bytes(&mut value, 1, scalar.tag.as_bytes());
        #[expect(clippy::cast_possible_truncation, reason = "TensorBoard keeps single precision")]
        float(&mut value, 2, scalar.value as f32);
        let mut summary = Vec::new();
        bytes(&mut summary, 1, &value);
        let mut event = Vec::new();
        double(&mut event, 1, wall_secs);
        varint(&mut event, 2 << 3);
        varint(&mut event, scalar.step);
        bytes(&mut event, 5, &summary);
        record(&mut file, &event);
    }
    file
}

fn record(file: &mut Vec<u8>, data: &[u8]) {
    let length = (data.len() as u64).to_le_bytes();
    file.extend_from_slice(&length);
    file.extend_from_slice(&masked(crc32c(&length)).to_le_bytes());
    file.extend_from_slice(data);
    file.extend_from_slice(&masked(crc32c(data)).to_le_bytes());
}

/// A checksum that may itself stand in data that is summed.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), bit by bit: event files are small.
fn crc32c(data: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in data {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

/// A number in groups of seven bits, the lowest first.
fn varint(out: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or_default();
        number >>= 7;
        if number == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

fn double(out: &mut Vec<u8>, field: u64, value: f64) {
    varint(out, field << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

fn float(out: &mut Vec<u8>, field: u64, value: f32) {
    varint(out, field << 3 | 5);
    out.extend_from_slice(&value.to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_standard() {
        // RFC 3720, B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&ascending), 0x46dd_794e);
    }

    #[test]
    fn numbers_are_written_as_protocol_buffers_have_them() {
        let check = |number: u64, expected: &[u8]| {
            let mut out = Vec::new();
            varint(&mut out, number);
            assert_eq!(out, expected, "{number}");
        };
        check(0, &[0]);
        check(127, &[0x7f]);
        check(128, &[0x80, 0x01]);
        check(300, &[0xac, 0x02]);
    }

    #[test]
    fn a_file_is_a_record_for_the_version_and_one_for_each_number() {
        let scalar = |step| Scalar { tag: "loss".to_owned(), step, value: 0.25 };
        let file = event_file(&[scalar(1), scalar(300)], 5.0);
        let (mut at, mut records) = (0, Vec::new());
        while at < file.len() {
            let length = u64::from_le_bytes(file[at..at + 8].try_into().unwrap());
            let crc = u32::from_le_bytes(file[at + 8..at + 12].try_into().unwrap());
            assert_eq!(crc, masked(crc32c(&file[at..at + 8])));
            let end = at + 12 + usize::try_from(length).unwrap();
            let data = &file[at + 12..end];
            let crc = u32::from_le_bytes(file[end..end + 4].try_into().unwrap());
            assert_eq!(crc, masked(crc32c(data)));
            records.push(data.to_vec());
            at = end + 4;
        }
        assert_eq!(records.len(), 3);
        // Field 1 as a double, field 2 as 300, field 5 of 13 bytes: a value of 11, its tag, its number.
        let mut expected = vec![0x09];
        expected.extend_from_slice(&5.0_f64.to_le_bytes());
        expected.extend_from_slice(&[0x10, 0xac, 0x02, 0x2a, 13, 0x0a, 11, 0x0a, 4]);
        expected.extend_from_slice(b"loss");
        expected.push(0x15);
        expected.extend_from_slice(&0.25_f32.to_le_bytes());
        assert_eq!(records[2], expected);
    }
}
