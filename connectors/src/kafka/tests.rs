//! Against a real Kafka, `tests/services/kafka.sh start`; skipped aloud where `KAFKA_BOOTSTRAP` is not set.
//! librdkafka's own mock shows aborted records to readers, so nothing here could rest on it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use rdkafka::Message;
use rdkafka::message::Headers;
use redpoll_core::ids::{Epoch, Lane};
use redpoll_core::source::{OffsetRange, Offsets, Record, Source as _, Start};
use uuid::Uuid;

use super::offsets::create_topic;
use super::*;
use crate::conformance;

mod changes;
mod faults;
mod reading;
mod settings;
mod tls;
mod writing;

/// The brokers of the test cluster.
fn broker() -> Option<String> {
    let brokers = std::env::var("KAFKA_BOOTSTRAP").ok();
    if brokers.is_none() {
        eprintln!("skipped: KAFKA_BOOTSTRAP is not set; run tests/services/kafka.sh start");
    }
    brokers
}

fn config(brokers: &str, topic: &str, options: &[(&str, &str)]) -> Config {
    let options = options.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    Config::parse(&format!("kafka://{brokers}/{topic}"), &options).unwrap()
}

/// A new topic.
async fn topic(brokers: &str, n_partitions: u32, settings: &[(&str, &str)]) -> String {
    let name = format!("test-{}", Uuid::new_v4().simple());
    let settings = settings.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    create_topic(&config(brokers, &name, &[]), &name, n_partitions, &settings).await.unwrap();
    name
}

/// Writes values outside transactions, to partitions in turn.
async fn write(brokers: &str, topic: &str, n_partitions: i32, values: &[Vec<u8>]) {
    let sink = Sink::open(&config(brokers, topic, &[]), "writer", Epoch(0)).await.unwrap();
    for (i, value) in values.iter().enumerate() {
        let key = i.to_string();
        let partition = Some(i as i32 % n_partitions);
        sink.send(Outgoing { topic, partition, key: Some(key.as_bytes()), value, source: None }).await.unwrap();
    }
    assert_eq!(sink.finish().await.unwrap().records, values.len() as u64);
}

/// Opens a lane that must have something to write.
async fn producing(config: &Config, job: &str, lane: u32, epoch: u64) -> Transaction {
    match Transaction::open(config, job, Lane(lane), Epoch(epoch)).await.unwrap() {
        Opened::Producing(transaction) => transaction,
        Opened::Already(mark) => panic!("lane {lane} is already at {mark:?}"),
    }
}

async fn send(transaction: &Transaction, topic: &str, values: &[&str]) {
    for value in values {
        let record = Outgoing { topic, partition: Some(0), key: None, value: value.as_bytes(), source: None };
        transaction.send(record).await.unwrap();
    }
}

/// All that a reader sees, in order of partition and offset.
async fn visible(config: &Config) -> Vec<Record> {
    let source = Source::new(config.clone()).unwrap();
    let mut records = Vec::new();
    for range in source.available(&Offsets::new(), Start::Earliest, u64::MAX).await.unwrap() {
        records.extend(conformance::read(&source, &range).await);
    }
    records
}

async fn visible_values(config: &Config) -> Vec<String> {
    visible(config).await.iter().map(|record| String::from_utf8(record.value.to_vec()).unwrap()).collect()
}

/// What is visible once the brokers have ended every transaction: they answer a commit before they write its markers.
async fn settled_values(config: &Config) -> Vec<String> {
    let uncommitted = Config { isolation: Isolation::ReadUncommitted, ..config.clone() };
    let deadline = Instant::now() + Duration::from_secs(20);
    while topics(config).await.unwrap() != topics(&uncommitted).await.unwrap() {
        assert!(Instant::now() < deadline, "a transaction is still open");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    visible_values(config).await
}
