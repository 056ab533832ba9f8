//! What steps find on an executor: sources, decoders, sinks and science modules, each with clients that are shared by
//! all tasks of the process.

use std::sync::Arc;

use async_trait::async_trait;
use dashmap::DashMap;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use object_store::ObjectStore;
use redpoll_connectors::avro::{Decoder, ReaderSchema};
use redpoll_connectors::{sinks, sources};
use redpoll_core::objects::Stores;
use redpoll_core::runtime::{self, Admission, Decode, Evaluated, Marker, SourceSpec, Version};
use redpoll_core::sink::{self, Attempt, OpenSink, SinkSet};
use redpoll_core::source::{self, Record, Source};
use redpoll_udfs::host::Host;
use redpoll_udfs::manifest::Module;
use redpoll_udfs::registry::{Deployed, Registry};

use crate::memory::Memory;

/// The runtime of one executor process.
pub struct Runtime {
    name: String,
    stores: Arc<Stores>,
    /// Address of the cluster's store of wide-column tables.
    store: Option<String>,
    lanes: u32,
    registry: Registry,
    /// Versions that were fetched from a warehouse, by fingerprint.
    fetched: DashMap<String, Arc<Module>>,
    host: Host,
    sources: DashMap<String, Arc<dyn Source>>,
    memory: Option<Memory>,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Runtime {
    pub fn new(name: String, stores: Arc<Stores>, store: Option<String>, registry: Registry, host: Host) -> Self {
        let (lanes, fetched, sources) = (sinks::LANES, DashMap::new(), DashMap::new());
        Self { name, stores, store, lanes, registry, fetched, host, sources, memory: None }
    }

    /// Bounds the splits at work, so that the process takes about this much memory at most.
    pub fn within(mut self, memory_bytes: Option<u64>) -> Self {
        self.memory = memory_bytes.map(Memory::new);
        self
    }

    /// Fetches a version of a module, builds its environment and imports it in every worker, so that the first alert
    /// finds it warm.
    pub async fn prepare(&self, version: &Version) -> Result<(), String> {
        let Version { module, lock, .. } = version;
        let prepared = match self.version(version).await {
            Ok(version) => self.host.prepare(&[version]).await.map_err(|error| error.to_string()),
            Err(error) => Err(error),
        };
        match &prepared {
            Ok(()) => tracing::info!(module, lock, "a deployed module is ready"),
            Err(reason) => tracing::warn!(module, lock, reason, "a deployed module cannot be made ready"),
        }
        prepared
    }

    /// The version that a plan names: of those that this process was started with, or from the warehouse.
    async fn version(&self, version: &Version) -> Result<Arc<Module>, String> {
        let Version { module, lock, bundles } = version;
        let own = self.registry.get(module);
        if let Ok(own) = &own
            && own.fingerprint == *lock
        {
            return Ok(Arc::clone(own));
        }
        if let Some(fetched) = self.fetched.get(lock) {
            return Ok(fetched.clone());
        }
        let Some(bundles) = bundles else {
            let own = own.map_err(|error| error.to_string())?;
            return Err(format!(
                "module '{module}' differs on executor {}: it has {}, the epoch was planned with {lock}; install the same modules everywhere",
                self.name, own.fingerprint
            ));
        };
        let deployed = Deployed::at(&self.stores, bundles).map_err(|error| error.to_string())?;
        let fetched = deployed.fetch(module, lock, self.host.cache_dir()).await.map_err(|error| error.to_string())?;
        self.fetched.insert(lock.clone(), fetched.clone());
        Ok(fetched)
    }
}

#[async_trait]
impl runtime::Runtime for Runtime {
    fn executor(&self) -> &str {
        &self.name
    }

    async fn admit(&self, split_bytes: u64) -> Admission {
        match &self.memory {
            Some(memory) => Box::new(memory.admit(split_bytes).await),
            None => Box::new(()),
        }
    }

    async fn source(&self, spec: &SourceSpec) -> Result<Arc<dyn Source>, source::Error> {
        // A source pools its consumers, so all tasks on one table share it.
        let key = format!("{} {:?}", spec.url, spec.options);
        if let Some(source) = self.sources.get(&key) {
            return Ok(source.clone());
        }
        let source = sources::open(spec, &self.stores).await?;
        Ok(self.sources.entry(key).or_insert(source).clone())
    }

    fn decoder(
        &self,
        spec: &SourceSpec,
        reader: &SchemaRef,
        schema: &SchemaRef,
    ) -> Result<Box<dyn Decode>, source::Error> {
        let wrong = |reason: &dyn std::fmt::Display| source::Error::Read {
            location: spec.name.clone(),
            reason: reason.to_string(),
        };
        let format = sources::format(spec)?;
        let reader = ReaderSchema::from(reader.as_ref());
        let paths = sources::paths(schema);
        let decoder = Decoder::new(format, &reader, Some(&paths)).map_err(|error| wrong(&error))?;
        Ok(Box::new(AvroDecode { decoder, table: spec.name.clone() }))
    }

    fn fingerprint(&self, spec: &SourceSpec, record: &Record) -> Option<String> {
        sources::format(spec).ok()?.fingerprint(record)
    }

    async fn sinks(&self, attempt: &Attempt, open: &[OpenSink]) -> Result<Box<dyn SinkSet>, sink::Error> {
        sinks::open(attempt, open, &self.stores, self.store.as_deref(), self.lanes).await
    }

    fn marker(&self, sink: &OpenSink, id: Option<&str>) -> Result<Option<Box<dyn Marker>>, sink::Error> {
        sinks::marker(sink, id)
    }

    async fn evaluate(&self, version: &Version, args: RecordBatch) -> Result<Evaluated, String> {
        let module = self.version(version).await?;
        let evaluated = self.host.evaluate(&module, &args).await.map_err(|error| error.to_string())?;
        let failures = evaluated.failures.into_iter().map(|(row, reason)| (row as usize, reason)).collect();
        Ok(Evaluated { values: evaluated.values, failures })
    }

    fn objects(&self, url: &str) -> Result<(Arc<dyn ObjectStore>, object_store::path::Path), String> {
        let location = self.stores.locate(url).map_err(|error| error.to_string())?;
        Ok((location.store, location.path))
    }
}

struct AvroDecode {
    decoder: Decoder,
    table: String,
}

#[async_trait]
impl Decode for AvroDecode {
    async fn decode(&mut self, records: &[Record]) -> Result<runtime::Decoded, source::Error> {
        let prepared = self.decoder.prepare(records).await;
        prepared.map_err(|error| source::Error::Read { location: self.table.clone(), reason: error.to_string() })?;
        Ok(self.decoder.decode(records))
    }
}
