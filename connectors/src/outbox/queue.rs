//! Objects of gzipped JSON, one value on each line: an attempt's messages, a segment of a record.

use std::io::{Error, Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// An object with these values, in order.
pub fn pack<'a, T: Serialize + 'a>(values: impl IntoIterator<Item = &'a T>) -> Result<Vec<u8>, Error> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    for value in values {
        serde_json::to_writer(&mut packed, value)?;
        packed.write_all(b"\n")?;
    }
    packed.finish()
}

/// The values of an object, in order.
pub fn unpack<T: DeserializeOwned>(object: &[u8]) -> Result<Vec<T>, Error> {
    let mut text = String::new();
    GzDecoder::new(object).read_to_string(&mut text)?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}
