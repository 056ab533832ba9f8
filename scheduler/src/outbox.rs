//! Messages of committed epochs, brought to their receivers beside the jobs: epochs never wait for them.
//!
//! A [`Sender`] serves one `OUTBOX` table of one job. It follows the job's log ([`backlog`]), takes the messages of the
//! attempts that were chosen, and has one request under way at a time; what became of each message is in the table's
//! record ([`redpoll_connectors::outbox::Record`]) before the next one is sent. It belongs to a scheduler, not to a run of
//! the job: messages of a job that has ended are sent all the same, and by the next scheduler if this one dies.

mod backlog;
mod clock;
mod sender;
mod state;
mod view;
mod watched;

use serde::{Deserialize, Serialize};

pub use clock::{Clock, Monotonic};
pub use sender::{Couriers, Order, Sender};
pub use view::{View, views};

/// How a table of messages does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lag {
    /// Messages of all committed epochs.
    pub queued: u64,
    pub sent: u64,
    /// Refused by their receiver, or not taken however often they were sent.
    pub set_aside: u64,
    /// Not sent, as there was a message of the same key before.
    pub repeated: u64,
    /// Still to be sent.
    pub waiting: u64,
    /// Why the next one is not sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<Failing>,
}

/// A message that waits for another try, or a sender that cannot begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failing {
    pub reason: String,
    /// The first failure, milliseconds since 1970-01-01 UTC.
    pub since: i64,
    /// How often it has failed in a row.
    pub tries: u32,
    /// The next try, milliseconds since 1970-01-01 UTC.
    pub next: i64,
}

impl Lag {
    /// Whether nothing is left to be sent, of as many messages as the job has committed.
    pub fn is_done(&self, committed: u64) -> bool {
        self.waiting == 0 && self.queued >= committed
    }
}

#[cfg(test)]
mod tests;
