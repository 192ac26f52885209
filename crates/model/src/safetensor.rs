//! Named arrays as a safetensors file: 8 bytes of header length, a JSON header, raw numbers.
//!
//! The reader is the format's own crate, which checks every offset. The writer is ours, because the
//! crate keeps metadata in a hash map and so writes them in another order each time; here the
//! same arrays and metadata always give the same bytes, and a file can be known by its hash.
//!
//! Source: the format's description, <https://github.com/huggingface/safetensors>.

use std::collections::BTreeMap;

use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value, json};

use crate::error::{Cause, Error};
use crate::params::{Array, Tensors};

/// The header's key for metadata.
const METADATA: &str = "__metadata__";

/// The arrays as a safetensors file in single precision.
///
/// The same arrays and metadata give the same bytes: names are in order, the header is padded with
/// spaces to a multiple of 8 bytes.
///
/// # Example
///
/// ```
/// use std::collections::BTreeMap;
/// use mnemoscope_model::params::{Array, Tensors, from_safetensors, to_safetensors};
///
/// let mut tensors = Tensors::default();
/// tensors.insert("w", Array { shape: vec![1, 2], data: vec![0.1, -0.2] });
/// let metadata = BTreeMap::from([("step".to_owned(), "7".to_owned())]);
/// let bytes = to_safetensors(&tensors, &metadata);
/// assert_eq!(from_safetensors(&bytes).unwrap(), (tensors, metadata));
/// ```
#[must_use]
pub fn to_safetensors(tensors: &Tensors, metadata: &BTreeMap<String, String>) -> Vec<u8> {
    let mut header = Map::new();
    if !metadata.is_empty() {
        header.insert(METADATA.to_owned(), json!(metadata));
    }
    let mut offset = 0;
    for (name, array) in tensors.iter() {
        let end = offset + size_of_val(array.data.as_slice());
        let entry = json!({"dtype": "F32", "shape": array.shape, "data_offsets": [offset, end]});
        header.insert(name.to_owned(), entry);
        offset = end;
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut bytes = Vec::with_capacity(8 + header.len() + offset);
    bytes.extend_from_slice(&(header.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&header);
    for (_, array) in tensors.iter() {
        bytes.extend(array.data.iter().flat_map(|value| value.to_le_bytes()));
    }
    bytes
}

/// The arrays and metadata of a safetensors file.
///
/// # Errors
///
/// `Corrupt`, if the bytes are no sound safetensors file; `Incompatible`, if a tensor is not in
/// single precision.
pub fn from_safetensors(bytes: &[u8]) -> Result<(Tensors, BTreeMap<String, String>), Error> {
    let damaged = |why: safetensors::SafeTensorError| Cause::Damaged { why: why.to_string() };
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
    let file = SafeTensors::deserialize(bytes).map_err(damaged)?;
    let mut tensors = Tensors::default();
    for (name, view) in file.iter() {
        if view.dtype() != Dtype::F32 {
            let found = format!("{:?}", view.dtype());
            return Err(Cause::Precision { name: name.to_owned(), found }.into());
        }
        let (numbers, _) = view.data().as_chunks::<4>();
        let data = numbers.iter().map(|&number| f32::from_le_bytes(number)).collect();
        tensors.insert(name, Array { shape: view.shape().to_vec(), data });
    }
    let metadata = header.metadata().iter().flatten();
    Ok((tensors, metadata.map(|(key, value)| (key.clone(), value.clone())).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn file() -> Vec<u8> {
        let mut tensors = Tensors::default();
        for name in ["b", "a \"quoted\" name", "c.ü"] {
            tensors
                .insert(name, Array { shape: vec![3], data: vec![1.0, f32::MIN_POSITIVE, -0.0] });
        }
        tensors.insert("none", Array { shape: vec![0, 4], data: Vec::new() });
        let metadata = (0..20).map(|k| (format!("key {k}"), format!("line\n{k}")));
        to_safetensors(&tensors, &metadata.collect())
    }

    #[test]
    fn the_same_arrays_give_the_same_bytes_and_come_back() {
        let (tensors, metadata) = from_safetensors(&file()).unwrap();
        assert_eq!((tensors.len(), metadata.len()), (4, 20));
        assert_eq!(to_safetensors(&tensors, &metadata), file());
    }

    #[test]
    fn every_truncation_is_corrupt_and_none_panics() {
        let whole = file();
        for n_bytes in 0..whole.len() {
            let why = from_safetensors(&whole[..n_bytes]).unwrap_err();
            assert_eq!(why.kind(), ErrorKind::Corrupt, "{n_bytes} bytes: {why}");
        }
    }

    #[test]
    fn another_precision_is_refused_by_name() {
        let mut bytes = file();
        let place = bytes.windows(3).position(|window| window == b"F32").unwrap();
        bytes[place] = b'I';
        let why = from_safetensors(&bytes).unwrap_err();
        assert_eq!(why.kind(), ErrorKind::Incompatible);
        let said = why.to_string();
        assert!(
            said.ends_with("holds I32 numbers, this release reads F32; convert the file"),
            "{said}"
        );
    }
}
