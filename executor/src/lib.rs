//! An executor: Ballista's tasks, our nodes, in a process that joins a scheduler, works, drains and goes.

mod config;
mod executor;
mod folder;
mod memory;
mod runtime;

pub use config::{Config, Parts};
pub use executor::{Attached, Error, Executor, Stopped, run};
pub use runtime::Runtime;
