//! Messages to people and machines: webhooks, bots, reports. Each alert's message is sent once, whatever is run again.
//!
//! Nothing is sent while an epoch runs. An attempt leaves its rows as [`Message`]s in an object that its receipt names;
//! once the epoch is committed, the scheduler takes those of the chosen attempts, passes over the keys that its
//! [`Record`] has, sends the others by a [`Courier`], one after the other, and puts down what became of each before it
//! turns to the next. A request is in doubt only between the receiver's answer and that record: it is sent again with the
//! same `Idempotency-Key`.

mod config;
mod courier;
mod message;
mod pauses;
mod queue;
mod record;
mod secret;

pub use config::{Address, Config, Format, OPTIONS, OnFailure, Wrong, alters_messages};
pub use courier::{Answer, Courier, Deliver, Unset};
pub use message::{MAX_BYTES, Message, check_columns, idempotency_key};
pub(crate) use message::{Unsendable, messages};
pub use pauses::{Pauses, Rate};
pub use queue::{pack, unpack};
pub use record::{Aside, Entry, Error, Known, Record, Reign, Sent, tables};

#[cfg(test)]
mod tests;
