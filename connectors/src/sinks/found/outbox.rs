//! Messages of an outbox, sent or not: each says where its alert was read.

use futures::StreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use redpoll_core::ids::Epoch;
use redpoll_core::sink::{Error, SinkSpec};

use super::{Contents, Found, FoundAt, Queued};
use crate::outbox::{Message, unpack};

pub(super) fn open(sink: &SinkSpec, queued: Option<Queued<'_>>) -> Contents {
    let Some(Queued { store, objects }) = queued else {
        return Contents { rows: futures::stream::empty().boxed(), shortened: Vec::new() };
    };
    let (store, name, objects) = (store.clone(), sink.name.clone(), objects.to_vec());
    let rows = futures::stream::iter(objects).map(move |(epoch, path)| {
        let (store, name) = (store.clone(), name.clone());
        async move { read(store.as_ref(), epoch, &path).await.map_err(|reason| Error::new(&name, reason)) }
    });
    Contents { rows: rows.buffered(4).boxed(), shortened: Vec::new() }
}

async fn read(store: &dyn ObjectStore, epoch: Epoch, path: &Path) -> Result<Vec<Found>, String> {
    let bytes = async { store.get(path).await?.bytes().await };
    let bytes = bytes.await.map_err(|error| error.to_string())?;
    let messages: Vec<Message> = unpack(&bytes).map_err(|error| format!("{path}: {error}"))?;
    let found = |Message { key, topic, partition, offset, alert, .. }| Found {
        epoch: Some(epoch),
        origin: Some(FoundAt { topic, partition, offset, row: Some(alert) }),
        at: format!("message '{key}'"),
        ours: true,
        ..Found::default()
    };
    Ok(messages.into_iter().map(found).collect())
}
