//! How large a record a topic takes: its `max.message.bytes`, which brokers tell whoever may ask (`DescribeConfigs`).
//!
//! What is above it must not be sent: the brokers' refusal costs the transaction with all else that is in it.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use rdkafka::admin::{AdminOptions, OwnedResourceSpecifier, ResourceSpecifier};

use super::client::{Cluster, in_background};
use super::offsets::admin;
use super::{Config, Error};

const SETTING: &str = "max.message.bytes";
/// For how long an answer holds: a limit may be raised while a job runs.
const FRESH: Duration = Duration::from_secs(60);

/// A limit, none of a topic whose brokers do not tell, and when they were asked.
type Known = (Option<u64>, Instant);

/// By brokers and topic.
static KNOWN: LazyLock<DashMap<(String, String), Known>> = LazyLock::new(DashMap::new);

/// The largest batch in bytes that each of these topics takes, after compression and with what frames it; those topics
/// are left out whose brokers do not tell. They are asked at most once a minute.
pub async fn max_message_bytes(config: &Config, topics: &[String]) -> BTreeMap<String, u64> {
    let key = |topic: &String| (config.servers(), topic.clone());
    let is_fresh = |topic: &String| KNOWN.get(&key(topic)).is_some_and(|known| known.1.elapsed() < FRESH);
    let old: Vec<&String> = topics.iter().filter(|topic| !is_fresh(topic)).collect();
    if !old.is_empty() {
        let told = ask(config, &old).await.unwrap_or_else(|error| {
            tracing::info!(%error, "limits of topics are not known: a record above them fails its epoch");
            BTreeMap::new()
        });
        for topic in old {
            KNOWN.insert(key(topic), (told.get(topic).copied(), Instant::now()));
        }
    }
    topics.iter().filter_map(|topic| Some((topic.clone(), KNOWN.get(&key(topic))?.0?))).collect()
}

async fn ask(config: &Config, topics: &[&String]) -> Result<BTreeMap<String, u64>, Error> {
    let admin = admin(config)?;
    let options = AdminOptions::new().request_timeout(Some(config.request_timeout));
    let asked: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
    let answers = admin.describe_configs(&asked, &options).await;
    // Its thread takes a moment to end.
    in_background(move || drop(admin));
    let answers = answers.map_err(|error| Cluster::of(config).failed("asking for the limits of topics", &error))?;
    let limit = |answer: rdkafka::admin::ConfigResource| match &answer.specifier {
        OwnedResourceSpecifier::Topic(topic) => {
            Some((topic.clone(), answer.get(SETTING)?.value.as_ref()?.parse().ok()?))
        }
        _ => None,
    };
    Ok(answers.into_iter().flatten().filter_map(limit).collect())
}
