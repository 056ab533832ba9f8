//! The trace of each epoch: a span `epoch` from its plan to its commit, and below it one for each action.
//!
//! An action on several epochs, such as a commit, stands in the trace of the last of them. Each span has the trace's id as a
//! field, so that a line of the logs leads to the trace: the id that the collector has, or where nothing is exported one
//! of our own.

use std::collections::BTreeMap;

use opentelemetry::trace::{TraceContextExt, TraceId};
use redpoll_core::ids::Epoch;
use redpoll_core::protocol::Entry;
use tracing::field::Empty;
use tracing::{Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use uuid::Uuid;

use super::machine::Action;

/// The open epochs' spans, each with the id of its trace.
#[derive(Debug)]
pub struct Trace {
    job: String,
    epochs: BTreeMap<Epoch, (Span, String)>,
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
        let (parent, trace_id) = self.epochs.entry(epoch).or_insert_with(|| epoch_span(job, n));
        // A log line shows the innermost span alone, so each says whose it is.
        match action {
            Action::Append(Entry::Intent(_)) => info_span!(parent: &*parent, "plan", job, epoch = n, trace_id),
            Action::Run { splits, .. } => {
                info_span!(parent: &*parent, "run", job, epoch = n, trace_id, n_splits = splits.len())
            }
            Action::ReadReceipts(_) => info_span!(parent: &*parent, "receipts", job, epoch = n, trace_id),
            Action::Publish(prepared) => {
                info_span!(parent: &*parent, "publish", job, epoch = n, trace_id, n_epochs = prepared.len())
            }
            Action::Append(Entry::Committed { .. }) => {
                let span = info_span!(parent: &*parent, "commit", job, epoch = n, trace_id);
                self.epochs.retain(|open, _| *open > epoch);
                span
            }
            _ => info_span!(parent: &*parent, "prepare", job, epoch = n, trace_id),
        }
    }
}

fn epoch_span(job: &str, epoch: u64) -> (Span, String) {
    let span = info_span!(parent: None, "epoch", job, epoch, trace_id = Empty);
    let exported = span.context().span().span_context().trace_id();
    let id = match exported == TraceId::INVALID {
        true => Uuid::new_v4().simple().to_string(),
        false => exported.to_string(),
    };
    span.record("trace_id", id.as_str());
    (span, id)
}
