//! Where alerts come from and where they go: one folder per kind of system, the same file names in each.

pub mod avro;
pub mod delta;
pub mod kafka;
pub mod sinks;

#[cfg(test)]
mod conformance;
