//! The one text of a JSON value: what is hashed, compared and stored.

use serde_json::Value;

/// The canonical text of `value`: keys sorted, no spaces, shortest numbers.
///
/// Two values are equal exactly if their canonical texts are. Keys are sorted by the bytes of
/// their UTF-8 form. A float is written with the fewest digits that read back to the same bits,
/// and always with a point or an exponent, so `1.0` and `1` stay different; from `1e-5` up to below
/// `1e16` without an exponent. Sorting and floats are done here and not left to a library: the ids
/// of plans must not change with its version, or with a feature that another crate asks of it.
///
/// # Example
///
/// ```
/// use mnemoscope_store::canonical::to_canonical;
/// use serde_json::json;
///
/// assert_eq!(to_canonical(&json!({"b": 0.10, "a": [1, 1.0]})), r#"{"a":[1,1.0],"b":0.1}"#);
/// ```
#[must_use]
pub fn to_canonical(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

/// The name of `value` by content: 64 hexadecimal digits of BLAKE3 over its canonical text.
///
/// # Example
///
/// ```
/// use mnemoscope_store::canonical::hash;
/// use serde_json::json;
///
/// assert_eq!(hash(&json!({"a": 1, "b": 2})), hash(&json!({"b": 2, "a": 1})));
/// assert_ne!(hash(&json!({"a": 1})), hash(&json!({"a": 1.0})));
/// ```
#[must_use]
pub fn hash(value: &Value) -> String {
    hash_bytes(to_canonical(value).as_bytes())
}

/// 64 hexadecimal digits of BLAKE3 over `bytes`.
#[must_use]
pub fn hash_bytes(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// Appends the canonical text of `value`.
fn write(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort_unstable();
            out.push('{');
            for (place, key) in keys.into_iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write(&map[key], out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (place, item) in items.iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => write_float(float, out),
            _ => out.push_str(&number.to_string()),
        },
        scalar => out.push_str(&scalar.to_string()),
    }
}

/// Appends a finite float: `0.001`, `100.0`, `1e-7`, `1.5e+16`.
fn write_float(float: f64, out: &mut String) {
    // The standard library promises the fewest digits that read back to the same bits.
    let scientific = format!("{float:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return };
    if exponent.parse().is_ok_and(|exponent: i32| (-5..16).contains(&exponent)) {
        let plain = float.to_string();
        out.push_str(&plain);
        if !plain.contains('.') {
            out.push_str(".0");
        }
        return;
    }
    out.push_str(digits);
    out.push_str(if exponent.starts_with('-') { "e" } else { "e+" });
    out.push_str(exponent);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Ids of plans and checksums of records stand on these very characters.
    #[test]
    fn the_canonical_text_is_pinned() {
        let value = json!({
            "z": [0.1, 1e-7, 1.5e16, 1e300, -0.0, 3e-4, 100.0, 123_456_789.125],
            "y": [1e-5, 9.99e-6, 9_007_199_254_740_992.0, 5e-324, -1e15, 0.0],
            "a": {"nested": true, "é": null, "": "line\nquote\"tab\t\u{1}"},
            "n": [0, -1, u64::MAX, i64::MIN],
        });
        let expected = concat!(
            r#"{"a":{"":"line\nquote\"tab\t\u0001","nested":true,"é":null},"#,
            r#""n":[0,-1,18446744073709551615,-9223372036854775808],"#,
            r#""y":[0.00001,9.99e-6,9007199254740992.0,5e-324,-1000000000000000.0,0.0],"#,
            r#""z":[0.1,1e-7,1.5e+16,1e+300,-0.0,0.0003,100.0,123456789.125]}"#,
        );
        assert_eq!(to_canonical(&value), expected);
        assert_eq!(
            hash(&json!({})),
            "6e46dd10defc9b56c29a6ec56b508c21f54c08192194e4df25bf36f0c9c3c279",
        );
    }

    proptest::proptest! {
        #[test]
        fn every_finite_float_reads_back_to_the_same_bits(bits: u64) {
            let float = f64::from_bits(bits);
            if float.is_finite() {
                let back: Value = serde_json::from_str(&to_canonical(&json!(float))).unwrap();
                proptest::prop_assert_eq!(back.as_f64().unwrap().to_bits(), bits);
            }
        }
    }
}
