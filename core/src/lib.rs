//! Words that every crate shares: ids, offset ranges, records, and the contract of a source.

pub mod ids;
pub mod source;
