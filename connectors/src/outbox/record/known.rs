//! What a record says: its entries, and what they add up to.

use std::collections::{BTreeMap, HashSet};

use redpoll_core::ids::Epoch;
use redpoll_core::sink::SinkSpec;
use serde::{Deserialize, Serialize};

use crate::outbox::message::{Message, idempotency_key};

/// One numbered entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// A scheduler begins to send, by this declaration of the table. Secrets stand in it by their names.
    Reign {
        scheduler: String,
        job_uid: String,
        spec: SinkSpec,
        at: i64,
    },
    Sent(Sent),
    SetAside(Aside),
    /// All messages of epochs before this one are decided.
    Passed {
        epoch: Epoch,
    },
}

/// A message that its receiver has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    pub key: String,
    pub epoch: Epoch,
    /// Of HTTP.
    pub status: u16,
    pub tries: u32,
    /// Milliseconds since 1970-01-01 UTC.
    pub at: i64,
}

/// A message that its receiver refused, or did not take however often it was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aside {
    pub message: Message,
    pub epoch: Epoch,
    /// The receiver's answer.
    pub reason: String,
    pub tries: u32,
    /// Milliseconds since 1970-01-01 UTC.
    pub at: i64,
}

/// What a record says: the fold of its entries.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The number that the next entry will have.
    pub next: u64,
    pub reign: Option<Reign>,
    /// Idempotency keys of the messages that are decided.
    decided: HashSet<u128>,
    pub n_sent: u64,
    /// By idempotency key.
    pub aside: BTreeMap<u128, Aside>,
    /// Messages of epochs before this one are decided.
    pub passed: Epoch,
    /// The first entry that is in no segment.
    pub(super) unfolded: u64,
}

/// Who sends, and by what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reign {
    pub scheduler: String,
    pub job_uid: String,
    pub spec: SinkSpec,
}

impl Known {
    pub(super) fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Reign { scheduler, job_uid, spec, .. } => {
                let (scheduler, job_uid, spec) = (scheduler.clone(), job_uid.clone(), spec.clone());
                self.reign = Some(Reign { scheduler, job_uid, spec });
            }
            Entry::Sent(Sent { key, epoch, .. }) => {
                let id = self.id(key);
                self.decided.insert(id);
                self.aside.remove(&id);
                self.n_sent += 1;
                self.passed = self.passed.max(*epoch);
            }
            Entry::SetAside(aside) => {
                let id = self.id(&aside.message.key);
                self.decided.insert(id);
                self.aside.insert(id, aside.clone());
                self.passed = self.passed.max(aside.epoch);
            }
            Entry::Passed { epoch } => self.passed = self.passed.max(*epoch),
        }
        self.next += 1;
    }

    /// The idempotency key of a message; 0 before anybody reigned.
    pub fn id(&self, key: &str) -> u128 {
        self.reign.as_ref().map_or(0, |reign| idempotency_key(&reign.job_uid, &reign.spec.name, key))
    }

    /// Whether a message was sent or set aside.
    pub fn is_decided(&self, id: u128) -> bool {
        self.decided.contains(&id)
    }
}
