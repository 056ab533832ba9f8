//! Connectors: where records come from and where rows go.

pub mod avro;
pub mod delta;
