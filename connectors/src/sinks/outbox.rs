//! Rows as messages that wait in the warehouse: they are sent once their epoch is committed ([`crate::outbox`]).

use std::sync::Arc;

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use redpoll_core::objects::Stores;
use redpoll_core::protocol::{JobPaths, SinkReceipt};
use redpoll_core::sink::{Attempt, Error, OpenSink, Refused, Rows};

use super::Taken;
use super::topic::Origin;
use crate::outbox::{Config, Message, Unsendable, Wrong, messages, pack};
use crate::widecolumn::RowKey;

/// One object for the messages of an attempt, which bears the attempt's name.
pub(super) struct OutboxSink {
    name: String,
    store: Arc<dyn ObjectStore>,
    path: Path,
    key: RowKey,
    messages: Vec<Message>,
    taken: Taken,
}

impl OutboxSink {
    pub fn open(attempt: &Attempt, place: usize, sink: &OpenSink, stores: &Stores) -> Result<Self, Error> {
        let name = sink.spec.name.clone();
        let located = stores.locate(&attempt.warehouse).map_err(|error| Error::new(&name, error))?;
        let Attempt { job, epoch, split, attempt, .. } = attempt;
        let path = JobPaths::new(&located.path, job).queued(&name, (*epoch, *split), attempt, place);
        let wrong =
            |wrong: Vec<Wrong>| Error::new(&name, wrong.iter().map(Wrong::to_string).collect::<Vec<_>>().join("; "));
        let key = Config::parse(&sink.spec).map_err(wrong)?.key;
        Ok(Self { name, store: located.store, path, key, messages: Vec::new(), taken: Taken::default() })
    }

    /// Keeps the rows: a split is bounded by its bytes.
    pub fn write(&mut self, rows: &Rows) -> Result<Vec<Refused>, Error> {
        let failed = |error: &dyn std::fmt::Display| Error::new(&self.name, error.to_string());
        let origin = Origin::of(&rows.meta).ok_or_else(|| failed(&"rows without their origin"))?;
        let messages = messages(&rows.batch, &self.key, |row| origin.at(row)).map_err(|error| failed(&error))?;
        let refused =
            messages.iter().enumerate().filter_map(|(row, message)| refused(row, message)).collect::<Vec<_>>();
        self.messages.extend(messages.into_iter().flatten());
        self.taken.add(rows, &refused);
        Ok(refused)
    }

    pub async fn finish(self) -> Result<SinkReceipt, Error> {
        let failed = |error: &dyn std::fmt::Display| Error::new(&self.name, error.to_string());
        let mut receipt = self.taken.receipt();
        if self.taken.rows > 0 {
            let object = pack(&self.messages).map_err(|error| failed(&error))?;
            self.store.put(&self.path, PutPayload::from(object)).await.map_err(|error| failed(&error))?;
            receipt.files.push(self.path.filename().unwrap_or_default().into());
        }
        Ok(receipt)
    }
}

fn refused(row: usize, message: &Result<Message, Unsendable>) -> Option<Refused> {
    message.as_ref().err().map(|reason| Refused { row, reason: reason.to_string() })
}
