//! Connectors: where records come from and where rows go.

pub mod avro;
pub mod delta;
//! Where alerts come from and where they go: one folder per kind of system, the same file names in each.

pub mod kafka;

#[cfg(test)]
mod conformance;
