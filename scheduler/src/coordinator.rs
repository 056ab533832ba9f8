//! One job: epochs planned, run, prepared, published and committed, as the epoch protocol says.
//!
//! [`machine`] decides and does nothing else; [`job`] does what it decided and tells it how that went. Each action is
//! answered by one event, so there is one thing under way at a time, and a restart is the same as going on.

pub mod growth;
pub mod job;
pub mod machine;
pub mod point;
pub mod reign;
pub mod replays;
pub mod revision;
pub mod swap;
pub mod sweep;
pub mod trace;
pub mod trouble;
pub mod world;

pub use job::{Ask, Job, JobConfig, Status};
pub use machine::{Answer, Machine, Mode, OnExpired, Policy};
pub use point::Point;
pub use reign::{Revision, Scheduler, Wanted, reign};
pub use replays::{Accepted, Asked};
pub use swap::{Swap, Swaps, Taken};
pub use sweep::{Sweeper, Upkeep};
pub use trouble::Trouble;
pub use world::{Cluster, World};
