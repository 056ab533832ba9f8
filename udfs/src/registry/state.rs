//! What is deployed to a warehouse beside the modules that processes were started with.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// All that is deployed, as one object says it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Of the object that it was read from, counted from 1; 0 where nothing was ever deployed.
    #[serde(default)]
    pub number: u64,
    /// What was done last, in words.
    #[serde(default)]
    pub change: String,
    /// Science modules by name. They stand before modules of the same names that a process was started with.
    #[serde(default)]
    pub modules: BTreeMap<String, Deployment>,
    /// Filters by name, which is that of their table in the job.
    #[serde(default)]
    pub filters: BTreeMap<String, Filter>,
}

/// A version of a science module that is in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// [`Module::fingerprint`](crate::manifest::Module), and the name of its bundle.
    pub fingerprint: String,
    /// [`key`](crate::environment::key) of its environment: modules of equal keys share workers.
    pub environment: String,
    /// Milliseconds since 1970-01-01 UTC.
    pub added_at: i64,
    /// Fingerprint of a version that runs beside it and writes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<String>,
}

/// A table of the alerts that a condition picks, which is no part of the job's own text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// The job that it belongs to.
    pub job: String,
    /// View or table of alerts whose rows it picks from.
    pub over: String,
    /// SQL condition on its columns.
    #[serde(rename = "where")]
    pub condition: String,
    /// What a row of the topic has: a list of SQL expressions, by default `*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<String>,
    /// `kafka://…` or a folder of Avro files.
    pub location: String,
    /// Options of the topic.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// Milliseconds since 1970-01-01 UTC.
    #[serde(default)]
    pub added_at: i64,
}

impl State {
    /// The filters of a job, by name.
    pub fn filters_of(&self, job: &str) -> impl Iterator<Item = (&String, &Filter)> {
        self.filters.iter().filter(move |(_, filter)| filter.job == job)
    }

    /// Fingerprints of all versions that are in use, each once.
    pub fn fingerprints(&self) -> std::collections::BTreeSet<&str> {
        let versions = self.modules.values();
        versions.flat_map(|module| [Some(&module.fingerprint), module.shadow.as_ref()]).flatten().map(String::as_str).collect()
    }
}
