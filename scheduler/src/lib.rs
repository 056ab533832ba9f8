//! The scheduler: jobs and their epochs on the engine, and what users and machines ask about them.

pub mod engine;
