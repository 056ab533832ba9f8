//! What the brokers of an attempt's topics take at once, asked before anything is written.

use std::collections::BTreeMap;

use redpoll_core::sink::{Error, OpenSink, SinkKind};

use super::lanes::sorted_brokers;
use super::topic::kafka_topic;
use crate::kafka::{Config, max_message_bytes};

/// Bytes, by brokers and topic.
pub(super) struct Limits(BTreeMap<(Vec<String>, String), u64>);

impl Limits {
    pub async fn ask(sinks: &[OpenSink]) -> Result<Self, Error> {
        let mut clusters: BTreeMap<Vec<String>, (Config, Vec<String>)> = BTreeMap::new();
        let is_kafka = |sink: &&OpenSink| sink.spec.kind == SinkKind::Topic && sink.spec.url.starts_with("kafka://");
        for sink in sinks.iter().filter(is_kafka) {
            let (config, topic) = kafka_topic(&sink.spec)?;
            let (_, topics) = clusters.entry(sorted_brokers(&config)).or_insert_with(|| (config, Vec::new()));
            topics.push(topic);
        }
        let mut limits = BTreeMap::new();
        for (brokers, (config, topics)) in clusters {
            let told = max_message_bytes(&config, &topics).await;
            limits.extend(told.into_iter().map(|(topic, limit)| ((brokers.clone(), topic), limit)));
        }
        Ok(Self(limits))
    }

    /// Of one topic; none if its brokers do not tell.
    pub fn of(&self, config: &Config, topic: &str) -> Option<usize> {
        let limit = self.0.get(&(sorted_brokers(config), topic.to_owned()))?;
        Some(usize::try_from(*limit).unwrap_or(usize::MAX))
    }

    /// The config for a producer: what it sends at once is below the limit of each topic. Clusters are not told apart, as
    /// two lists of brokers may be of one.
    pub fn within(&self, config: &Config) -> Config {
        let batch_bytes = self.0.values().copied().chain([config.batch_bytes]).min().unwrap_or_default().max(1);
        Config { batch_bytes, ..config.clone() }
    }
}
