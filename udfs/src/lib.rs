//! What Redpoll computes on alerts: science modules in Python.

pub mod manifest;
pub mod registry;

pub mod environment;
pub mod host;
pub mod functions;
