//! The trace of each epoch: a span `epoch` from its plan to its commit, and below it one for each action.
//!
//! An action on several epochs, such as a commit, stands in the trace of the last of them.

use std::collections::BTreeMap;

use redpoll_core::ids::Epoch;
use redpoll_core::protocol::Entry;
use tracing::{Span, info_span};

use super::machine::Action;

/// The open epochs' spans.
#[derive(Debug)]
pub struct Trace {
    job: String,
    epochs: BTreeMap<Epoch, Span>,
}

impl Trace {
    pub fn new(job: &str) -> Self {
        Self { job: job.to_owned(), epochs: BTreeMap::new() }
    }

    /// The span to do an action in. With the span of its commit an epoch's own span comes to its end.
    pub fn span(&mut self, action: &Action) -> Span {
        let epoch = match action {
            Action::Append(Entry::Intent(intent)) | Action::Run { intent, .. } => intent.epoch,
            Action::Append(Entry::Prepared { epoch, .. }) | Action::ReadReceipts(epoch) => *epoch,
            Action::Append(Entry::Committed { to, .. }) => *to,
            Action::Publish(prepared) => prepared.last().map_or(Epoch(0), |last| last.epoch),
            _ => return Span::none(),
        };
        let (job, n) = (self.job.as_str(), epoch.0);
        let parent = self.epochs.entry(epoch).or_insert_with(|| info_span!(parent: None, "epoch", job, epoch = n));
        // A log line shows the innermost span alone, so each says whose it is.
        match action {
            Action::Append(Entry::Intent(_)) => info_span!(parent: &*parent, "plan", job, epoch = n),
            Action::Run { splits, .. } => {
                info_span!(parent: &*parent, "run", job, epoch = n, n_splits = splits.len())
            }
            Action::ReadReceipts(_) => info_span!(parent: &*parent, "receipts", job, epoch = n),
            Action::Publish(prepared) => {
                info_span!(parent: &*parent, "publish", job, epoch = n, n_epochs = prepared.len())
            }
            Action::Append(Entry::Committed { .. }) => {
                let span = info_span!(parent: &*parent, "commit", job, epoch = n);
                self.epochs.retain(|open, _| *open > epoch);
                span
            }
            _ => info_span!(parent: &*parent, "prepare", job, epoch = n),
        }
    }
}
