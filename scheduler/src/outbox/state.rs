//! What a sender knows while it sends, and what an answer makes of it. Nothing here waits or asks.

use std::collections::VecDeque;
use std::time::Duration;

use chrono::Utc;
use redpoll_connectors::outbox::{Answer, Aside, Config, Deliver, Entry, Known, Message, OnFailure, Pauses, Sent};
use redpoll_core::ids::Epoch;

use super::backlog::Backlog;
use super::{Failing, Lag};

/// A message that is to be sent.
pub(super) struct Due {
    pub id: u128,
    pub epoch: Epoch,
    pub message: Message,
    /// It was set aside before.
    pub again: bool,
}

/// All that a sender knows while it sends.
pub(super) struct Sending {
    pub config: Config,
    pub courier: Box<dyn Deliver>,
    pub known: Known,
    pub backlog: Backlog,
    pub hand: VecDeque<Due>,
    /// What became of the last message, until the record has it: nothing is sent before.
    pub undecided: Option<Entry>,
    pauses: Pauses,
    /// Requests for the message at hand to which a receiver answered, or may have.
    tries: u32,
    /// When the next request may begin, by the sender's clock.
    pub due: Duration,
    failing: Option<Failing>,
}

impl Sending {
    pub fn new(config: Config, courier: Box<dyn Deliver>, known: Known, backlog: Backlog) -> Self {
        Self {
            config,
            courier,
            known,
            backlog,
            hand: VecDeque::new(),
            undecided: None,
            pauses: Pauses::default(),
            tries: 0,
            due: Duration::ZERO,
            failing: None,
        }
    }

    /// Notes what came, just `now`, of the request for the message at hand.
    pub fn judge(&mut self, answer: Answer, now: Duration) {
        match answer {
            Answer::Taken { status } => {
                self.tries += 1;
                self.decide(|due, tries| {
                    Entry::Sent(Sent { key: due.message.key, epoch: due.epoch, status, tries, at: today() })
                });
            }
            Answer::Refused { reason } => {
                self.tries += 1;
                self.set_aside(reason);
            }
            Answer::Later { reason, .. } if self.tries + 1 >= self.most_tries() => {
                self.tries += 1;
                self.set_aside(reason);
            }
            Answer::Later { reason, after } => {
                self.tries += 1;
                self.pause(reason, now, after);
            }
            // Nobody has got anything, and every message would fare like this one.
            Answer::Unreachable { reason } => self.pause(reason, now, None),
        }
    }

    /// Whether a message is still to be sent.
    pub fn is_open(&self, due: &Due) -> bool {
        match due.again {
            true => self.known.aside.contains_key(&due.id),
            false => !self.known.is_decided(due.id),
        }
    }

    fn most_tries(&self) -> u32 {
        match self.config.on_failure {
            OnFailure::SetAside => self.config.tries,
            OnFailure::Wait => u32::MAX,
        }
    }

    fn pause(&mut self, reason: String, now: Duration, after: Option<Duration>) {
        let pause = self.pauses.next(after, Pauses::jitter());
        self.due = self.due.max(now + pause);
        self.failing = Some(failing(self.failing.take(), reason, pause));
    }

    fn set_aside(&mut self, reason: String) {
        self.decide(|due, tries| {
            Entry::SetAside(Aside { message: due.message, epoch: due.epoch, reason, tries, at: today() })
        });
    }

    fn decide(&mut self, entry: impl FnOnce(Due, u32) -> Entry) {
        self.undecided = self.hand.pop_front().map(|due| entry(due, self.tries));
        (self.tries, self.pauses, self.failing) = (0, Pauses::default(), None);
    }

    pub fn take_up_again(&mut self) -> u64 {
        for (id, Aside { message, epoch, .. }) in &self.known.aside {
            if !self.hand.iter().any(|due| due.id == *id) {
                self.hand.push_back(Due { id: *id, epoch: *epoch, message: message.clone(), again: true });
            }
        }
        self.known.aside.len() as u64
    }

    pub fn lag(&self) -> Lag {
        let decided = self.undecided.iter().filter(|entry| !matches!(entry, Entry::Passed { .. })).count();
        let waiting = self.backlog.waiting() + (self.hand.len() + decided) as u64;
        let (queued, sent, set_aside) = (self.backlog.queued(), self.known.n_sent, self.known.aside.len() as u64);
        let repeated = queued.saturating_sub(sent + set_aside + waiting);
        Lag { queued, sent, set_aside, repeated, waiting, failing: self.failing.clone() }
    }
}

pub(super) fn failing(before: Option<Failing>, reason: String, pause: Duration) -> Failing {
    let (since, tries) = before.map_or((today(), 0), |before| (before.since, before.tries));
    Failing { reason, since, tries: tries + 1, next: today() + i64::try_from(pause.as_millis()).unwrap_or(i64::MAX) }
}

/// Milliseconds since 1970-01-01 UTC.
pub(super) fn today() -> i64 {
    Utc::now().timestamp_millis()
}
