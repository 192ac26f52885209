//! The format of a record: its version, the names in its directory, and the envelope around every
//! JSON file.
//!
//! ```text
//! {"blake3":"<64 hex>","format":{"major":1,"minor":0},"body":{...}}<newline>
//!                      ^------------- the checksum covers ----------------^
//! ```
//!
//! The page for people is `docs/formats.md`; a test compares the two.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::canonical::{hash_bytes, to_canonical};
use crate::error::{Cause, Error};

/// The version of a stored format: readers refuse a newer `major` and accept a newer `minor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FormatVersion {
    /// Raised when an old reader would misread.
    pub major: u32,
    /// Raised when something was added that an old reader may ignore.
    pub minor: u32,
}

impl fmt::Display for FormatVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The format that this release writes. It reads every minor of this major.
pub const FORMAT: FormatVersion = FormatVersion { major: 1, minor: 0 };

/// Identity of the record: written last when a run begins, so its presence means a whole beginning.
pub(crate) const RECORD: &str = "record.json";
/// The plan.
pub(crate) const PLAN: &str = "plan.json";
/// The append-only events.
pub(crate) const EVENTS: &str = "events.jsonl";
/// The result: written last of all, so its presence means sealed.
pub(crate) const RESULT: &str = "result.json";
/// Which checkpoints were removed on purpose after the run was sealed.
pub(crate) const PRUNED: &str = "pruned.json";
/// The file whose lock a writer holds.
pub(crate) const LOCK: &str = "lock";
/// The folder of the checkpoints.
pub(crate) const CHECKPOINTS: &str = "checkpoints";
/// The ending of a file that is being written.
pub(crate) const TEMP: &str = ".tmp";
/// In the store: makes taking a lock and asking for it exclude each other.
pub(crate) const GATE: &str = ".gate";
/// In the store: the derived index.
pub(crate) const INDEX: &str = "index.sqlite";

/// What stands before the checksum, in JSON files and in events alike.
const OPEN: &str = r#"{"blake3":""#;
/// What stands between the checksum and what it covers.
const CLOSE: &str = r#"","#;
/// Hexadecimal digits of a checksum.
const N_HEX: usize = 64;

/// Writes `rest` behind its checksum.
pub(crate) fn with_checksum(checksum: &str, rest: &str) -> String {
    format!("{OPEN}{checksum}{CLOSE}{rest}")
}

/// Splits a checksum from what it covers, by place alone: the layout is part of the format.
pub(crate) fn split_checksum(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let tail = bytes.strip_prefix(OPEN.as_bytes())?;
    let (checksum, tail) = tail.split_at_checked(N_HEX)?;
    let rest = tail.strip_prefix(CLOSE.as_bytes())?;
    Some((checksum, rest))
}

#[derive(Deserialize)]
struct Envelope {
    format: FormatVersion,
    body: Option<Value>,
}

/// The bytes of a JSON file of the record with `body` in it.
pub(crate) fn encode_json(body: &Value) -> Vec<u8> {
    encode_json_as(FORMAT, body)
}

/// [`encode_json`] with a version of the caller's choice.
pub(crate) fn encode_json_as(format: FormatVersion, body: &Value) -> Vec<u8> {
    let FormatVersion { major, minor } = format;
    let rest = format!(
        "\"format\":{{\"major\":{major},\"minor\":{minor}}},\"body\":{}}}\n",
        to_canonical(body)
    );
    with_checksum(&hash_bytes(rest.as_bytes()), &rest).into_bytes()
}

/// The body of a JSON file of a record, and the version it was written in.
///
/// The checksum is compared before anything is interpreted, so a damaged version number is damage
/// and not a newer format. Only a file that does not have this layout at all is asked for its
/// version, because a later major may have another.
pub(crate) fn decode_json(path: &Path, bytes: &[u8]) -> Result<(FormatVersion, Value), Error> {
    let Some((checksum, rest)) = split_checksum(bytes) else {
        let newer = serde_json::from_slice(bytes)
            .ok()
            .map(|Envelope { format, .. }| format)
            .filter(|format| format.major > FORMAT.major);
        return Err(match newer {
            Some(found) => newer_format(path, found),
            None => Error::damaged(path, "it does not begin with a checksum"),
        });
    };
    if checksum != hash_bytes(rest).as_bytes() {
        return Err(Error::damaged(path, "its checksum does not fit its content"));
    }
    let envelope: Envelope = serde_json::from_slice(bytes)
        .map_err(|fault| Error::damaged(path, format!("its content is not readable ({fault})")))?;
    if envelope.format.major > FORMAT.major {
        return Err(newer_format(path, envelope.format));
    }
    let body = envelope.body.ok_or_else(|| Error::damaged(path, "it has no body"))?;
    Ok((envelope.format, body))
}

fn newer_format(path: &Path, found: FormatVersion) -> Error {
    Cause::Format { path: path.to_owned(), found, supported: FORMAT }.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use proptest::prelude::*;
    use serde_json::json;

    fn decode(bytes: &[u8]) -> Result<(FormatVersion, Value), Error> {
        decode_json(Path::new("record.json"), bytes)
    }

    #[test]
    fn the_layout_is_pinned() {
        let text = String::from_utf8(encode_json(&json!({"id": "a", "n": 0.5}))).unwrap();
        assert_eq!(
            text,
            concat!(
                r#"{"blake3":"1dac9e721a7c523b8b86bd5f91b4c2de802f803c4086066f191b22c018739152","#,
                r#""format":{"major":1,"minor":0},"body":{"id":"a","n":0.5}}"#,
                "\n"
            )
        );
    }

    /// All 255 ways to change each byte.
    #[test]
    fn every_changed_byte_is_seen() {
        let whole = encode_json(&json!({"id": "3f9c", "meta": {"n": [1, 2.5, null]}}));
        for at in 0..whole.len() {
            for flip in 1..=255 {
                let mut bytes = whole.clone();
                bytes[at] ^= flip;
                let kind = decode(&bytes).map_err(|error| error.kind());
                assert_eq!(kind, Err(ErrorKind::Corrupt), "byte {at} xor {flip}");
            }
        }
    }

    #[test]
    fn every_missing_end_is_seen() {
        let whole = encode_json(&json!({"id": "3f9c"}));
        for n_bytes in 0..whole.len() {
            assert!(decode(&whole[..n_bytes]).is_err(), "cut to {n_bytes} bytes");
        }
    }

    #[test]
    fn a_newer_major_is_refused_with_both_numbers() {
        let newer = encode_json_as(FormatVersion { major: 2, minor: 1 }, &json!({"id": "3f9c"}));
        let error = decode(&newer).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Incompatible);
        assert_eq!(
            error.to_string(),
            "record.json has format 2.1, this release reads 1.0; see docs/formats.md"
        );
    }

    #[test]
    fn a_newer_major_is_refused_with_both_numbers_whatever_its_layout() {
        let error = decode(br#"{"format": {"major": 3, "minor": 0}, "hash": "?"}"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "record.json has format 3.0, this release reads 1.0; see docs/formats.md"
        );
    }

    #[test]
    fn a_newer_minor_is_accepted_with_what_it_added() {
        let format = FormatVersion { major: 1, minor: 9 };
        let body = json!({"id": "3f9c", "added": true});
        assert_eq!(decode(&encode_json_as(format, &body)).unwrap(), (format, body));
    }

    proptest! {
        #[test]
        fn anything_at_all_is_read_or_refused(bytes: Vec<u8>) {
            prop_assert!(decode(&bytes).is_err());
        }

        #[test]
        fn every_body_comes_back(text: String, float in prop::num::f64::NORMAL, number: i64) {
            let body = json!({"text": text, "float": float, "list": [number, null, true]});
            prop_assert_eq!(decode(&encode_json(&body)).unwrap(), (FORMAT, body));
        }
    }
}
