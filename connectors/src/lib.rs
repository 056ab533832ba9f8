//! Where alerts come from and where they go: one folder per kind of system, the same file names in each.

pub mod avro;
pub mod catalog;
pub mod delta;
pub mod folder;
pub mod kafka;
pub mod local;
pub mod nodes;
pub mod outbox;
pub mod sinks;
pub mod sources;
pub mod widecolumn;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod peak;
