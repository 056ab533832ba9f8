//! Records of a topic of Kafka, by their headers, as a reader of committed records sees them.

use futures::{StreamExt, TryStreamExt};
use redpoll_core::ids::Epoch;
use redpoll_core::sink::{Error, SinkSpec};

use super::{Asked, Contents, Found, FoundAt};
use crate::kafka::{Delivered, Deliveries, Position};
use crate::sinks::kafka_topic;

/// Records that are handed on together.
const CHUNK: usize = 1024;

pub(super) async fn open(sink: &SinkSpec, asked: Asked<'_>) -> Result<Contents, Error> {
    let (config, topic) = kafka_topic(sink)?;
    let name = sink.name.clone();
    let failed = move |error: redpoll_core::source::Error| Error::new(&name, error);
    let deliveries = Deliveries::open(&config, &topic).await.map_err(&failed)?;
    let shortened = deliveries.shortened().collect();
    let uid = asked.job_uid.to_owned();
    let rows = deliveries.records().try_filter_map(move |record| {
        let ours = record.job.as_deref() == Some(&uid);
        let found = ours.then(|| found(&topic, &record));
        async move { Ok(found) }
    });
    let rows = rows.try_chunks(CHUNK).map_err(move |error| failed(error.1));
    Ok(Contents { rows: rows.boxed(), shortened })
}

fn found(topic: &str, record: &Delivered) -> Found {
    let position = record.source.as_deref().and_then(Position::parse);
    Found {
        epoch: record.epoch.as_deref().and_then(|epoch| epoch.parse().ok()).map(Epoch),
        origin: position.map(|position| FoundAt {
            topic: position.topic.to_owned(),
            partition: position.partition,
            offset: position.offset,
            row: Some(position.index),
        }),
        at: format!("{topic}[{}]@{}", record.partition, record.offset),
        ours: true,
        ..Found::default()
    }
}
