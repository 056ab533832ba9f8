//! A Kafka topic, created if missing.
//!
//! The producer is idempotent and its queue bounded, so that a slow broker slows the simulator instead of filling
//! memory. Delivery reports are counted: `finish` fails if one record was not acknowledged.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use super::Write;
use crate::{Alert, Error, Kafka, Result};

/// The largest alert: an LSST history of hundreds of sources is above Kafka's own limit of 1 MiB.
const MAX_MESSAGE_BYTES: &str = "16777216";
/// What waits for the brokers at most.
const MAX_QUEUED_KB: &str = "131072";
const TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

pub(super) struct Topic {
    kafka: Kafka,
    producer: BaseProducer<Reports>,
    n_partitions: i32,
}

/// How many records failed, and why the first did.
#[derive(Default)]
struct Reports(Mutex<Option<(u64, KafkaError)>>);

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let (Err((cause, _)), Ok(mut failed)) = (result, self.0.lock()) {
            failed.get_or_insert((0, cause.clone())).0 += 1;
        }
    }
}

impl Topic {
    pub(super) fn open(kafka: &Kafka) -> Result<Self> {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &kafka.servers);
        for (key, value) in &kafka.options {
            client.set(key, value);
        }
        create(kafka, &client)?;
        client
            .set("enable.idempotence", "true")
            .set("message.max.bytes", MAX_MESSAGE_BYTES)
            .set("queue.buffering.max.kbytes", MAX_QUEUED_KB)
            .set("linger.ms", "5");
        let producer: BaseProducer<Reports> =
            client.create_with_context(Reports::default()).map_err(|cause| failed(kafka, cause))?;
        let n_partitions = n_partitions(kafka, &producer)?;
        Ok(Self { kafka: kafka.clone(), producer, n_partitions })
    }
}

impl Write for Topic {
    /// Waits while the queue is full, as long as the brokers take anything at all.
    fn write(&mut self, alert: &Alert) -> Result<()> {
        let partition = (alert.sequence % self.n_partitions as u64) as i32;
        let mut record = BaseRecord::to(&self.kafka.topic).partition(partition).payload(alert.value.as_ref());
        record.key = alert.key.as_deref();
        loop {
            match self.producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    self.producer.poll(POLL);
                    record = back;
                }
                Err((cause, _)) => return Err(failed(&self.kafka, cause)),
            }
        }
        self.producer.poll(Duration::ZERO);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        let flushed = self.producer.flush(TIMEOUT);
        let n_waiting = self.producer.in_flight_count().max(0) as u64;
        let reports = self.producer.context().0.lock().ok().and_then(|mut reports| reports.take());
        let Kafka { servers, topic, .. } = self.kafka.clone();
        match (reports, flushed) {
            (Some((n_lost, cause)), _) => Err(Error::NotDelivered { servers, topic, n_lost, cause: cause.into() }),
            (None, Err(cause)) => Err(Error::NotDelivered { servers, topic, n_lost: n_waiting, cause: cause.into() }),
            (None, Ok(())) => Ok(()),
        }
    }
}

fn failed(kafka: &Kafka, cause: KafkaError) -> Error {
    Error::Kafka { servers: kafka.servers.clone(), topic: kafka.topic.clone(), cause: cause.into() }
}

/// Creates the topic if it is missing; one that exists is left as it is, and needs no right to create.
fn create(kafka: &Kafka, client: &ClientConfig) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = client.create().map_err(|cause| failed(kafka, cause))?;
    // All topics are asked for: to ask for one by name may create it, with the brokers' defaults.
    let known = admin.inner().fetch_metadata(None, TIMEOUT).map_err(|cause| failed(kafka, cause))?;
    if known.topics().iter().any(|topic| topic.name() == kafka.topic) {
        return Ok(());
    }
    let replication = TopicReplication::Fixed(-1); // as the brokers have it
    let topic =
        NewTopic::new(&kafka.topic, kafka.n_partitions.max(1), replication).set("max.message.bytes", MAX_MESSAGE_BYTES);
    let options = AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT));
    let created = futures::executor::block_on(admin.create_topics([&topic], &options));
    match created.map_err(|cause| failed(kafka, cause))?.into_iter().next() {
        Some(Err((_, code))) if code != RDKafkaErrorCode::TopicAlreadyExists => {
            let Kafka { servers, topic, .. } = kafka.clone();
            Err(Error::NotCreated { servers, topic, reason: code.to_string() })
        }
        _ => Ok(()),
    }
}

/// How many topic partitions there are, once the brokers know the topic.
fn n_partitions(kafka: &Kafka, producer: &BaseProducer<Reports>) -> Result<i32> {
    let start = Instant::now();
    loop {
        let metadata = producer.client().fetch_metadata(Some(&kafka.topic), TIMEOUT);
        let metadata = metadata.map_err(|cause| failed(kafka, cause))?;
        let n_partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
        if n_partitions > 0 {
            return Ok(n_partitions as i32);
        }
        if start.elapsed() > TIMEOUT {
            let Kafka { servers, topic, .. } = kafka.clone();
            return Err(Error::NotCreated { servers, topic, reason: "the brokers do not know it".into() });
        }
        producer.poll(POLL);
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::consumer::{BaseConsumer, Consumer};
    use rdkafka::mocking::MockCluster;
    use rdkafka::{Message, Offset, TopicPartitionList};

    use super::*;
    use crate::{Alerts, Config, Framing, Sink, run};

    const N_PARTITIONS: i32 = 3;

    /// Key and value of each record of a topic partition, up to the record that is the last there.
    fn read(servers: &str, partition: i32, n_records: usize) -> Vec<(Option<Vec<u8>>, Vec<u8>)> {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", servers).set("group.id", "test");
        let consumer: BaseConsumer = client.create().unwrap();
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset("alerts", partition, Offset::Beginning).unwrap();
        consumer.assign(&assignment).unwrap();
        let next = |_| {
            let record = consumer.poll(TIMEOUT).expect("a record within the time limit").unwrap();
            (record.key().map(<[u8]>::to_vec), record.payload().unwrap().to_vec())
        };
        (0..n_records).map(next).collect()
    }

    #[test]
    fn a_topic_gets_the_bytes_of_the_stream_in_turn() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("alerts", N_PARTITIONS, 1).unwrap();
        let servers = cluster.bootstrap_servers();
        let sink = Sink::Kafka(Kafka {
            servers: servers.clone(),
            topic: "alerts".into(),
            n_partitions: N_PARTITIONS,
            options: Default::default(),
        });
        let config = Config { framing: Framing::Fink, count: 30, sinks: vec![sink], ..Config::default() };
        run(&config, |_, _| {}).unwrap();

        let alerts: Vec<Alert> = Alerts::new(&config).unwrap().collect::<Result<_>>().unwrap();
        for partition in 0..N_PARTITIONS {
            let mine = alerts.iter().skip(partition as usize).step_by(N_PARTITIONS as usize);
            let expected: Vec<_> = mine.map(|a| (a.key.as_ref().map(|key| key.to_vec()), a.value.to_vec())).collect();
            assert!(read(&servers, partition, expected.len()) == expected, "partition {partition}");
        }
    }
}
