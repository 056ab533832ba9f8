//! What Redpoll computes on alerts: science modules in Python, and functions of its own in Rust.

pub mod manifest;
pub mod registry;

pub mod environment;
pub mod functions;
pub mod host;
pub mod packages;

pub mod author;
