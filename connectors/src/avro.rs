//! Avro: alerts to Arrow, and Arrow to what downstream readers take.
//!
//! A *framing* ([`Format`]) says where a record's schema is and where its alerts begin. A *reader schema*
//! ([`ReaderSchema`]) says which columns a pipeline wants. A [`Decoder`] turns records into batches: each writer schema
//! is compiled once into a program that appends to the reader's columns and passes over everything else. The way back is
//! an [`Encoder`], compiled from an Arrow schema.

mod column;
mod container;
mod cursor;
mod datums;
mod decoder;
mod encoder;
mod framing;
mod program;
mod read;
mod reader;
mod registry;
mod schema;
mod skip;

#[cfg(test)]
mod tests;

pub use datums::datums;
pub use decoder::{Decoder, Error as DecoderError};
pub use encoder::{Codec, Encoder, Error as EncoderError, Payloads, Timestamps};
pub use framing::{Error as FramingError, Format};
pub use reader::{Error as ReaderError, ReaderSchema};
pub use registry::{Error as RegistryError, Registry};
