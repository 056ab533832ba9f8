//! The scheduler: jobs and their epochs on the engine, and what users and machines ask about them.

pub mod coordinator;
pub mod engine;
mod epoch_table;
pub mod metrics;
pub mod outbox;
pub mod pipeline;
pub mod service;
