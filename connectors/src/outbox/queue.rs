//! The object that holds an attempt's messages: gzipped JSON, one message on each line.

use std::io::{Error, Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use super::Message;

/// An object with these messages, in order.
pub fn pack(messages: &[Message]) -> Result<Vec<u8>, Error> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    for message in messages {
        serde_json::to_writer(&mut packed, message)?;
        packed.write_all(b"\n")?;
    }
    packed.finish()
}

/// The messages of an object, in order.
pub fn unpack(object: &[u8]) -> Result<Vec<Message>, Error> {
    let mut text = String::new();
    GzDecoder::new(object).read_to_string(&mut text)?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}
