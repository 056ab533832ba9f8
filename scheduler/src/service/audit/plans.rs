//! Plans of the revisions that a job's epochs ran with, and what stands in the way of running them again.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use redpoll_connectors::sources;
use redpoll_core::protocol::{Intent, Pipeline, Spec};
use redpoll_core::runtime::SourceSpec;
use redpoll_core::sink::SinkSpec;
use redpoll_core::source::Source;
use tokio::sync::Mutex;

use crate::pipeline::{Compiled, Finding, Surroundings, TableKind, compile};
use crate::service::Service;
use crate::service::growth::Outgrown;

/// How one revision is run again.
pub(super) struct Plan {
    pub compiled: Compiled,
    /// Or why the source cannot be opened.
    pub source: Result<Arc<dyn Source>, String>,
    /// Why its modules cannot be called, if they cannot.
    pub modules: Option<String>,
}

/// By revision; a plan is made when it is first needed.
pub(super) struct Plans<'a> {
    service: &'a Service,
    job: String,
    made: Mutex<BTreeMap<u32, Result<Arc<Plan>, String>>>,
}

/// The world in which a pipeline ran, but for its sinks: what is wrong with those is for the audit to find.
struct Past<'a>(Outgrown<'a>);

#[async_trait]
impl Surroundings for Past<'_> {
    fn locate(&self, kind: TableKind, location: &str, pipeline: &Pipeline) -> Result<String, String> {
        self.0.locate(kind, location, pipeline)
    }

    async fn alerts(&self, spec: &SourceSpec, pipeline: &Pipeline) -> Result<SchemaRef, Vec<Finding>> {
        self.0.alerts(spec, pipeline).await
    }

    async fn sink(&self, _: &SinkSpec, _: &[SchemaRef]) -> Vec<Finding> {
        Vec::new()
    }
}

impl<'a> Plans<'a> {
    pub fn new(service: &'a Service, job: &str) -> Self {
        Self { service, job: job.to_owned(), made: Mutex::default() }
    }

    /// The plan of a revision, or why there is none.
    pub async fn of(&self, spec: Option<&Spec>, revision: u32) -> Result<Arc<Plan>, String> {
        let mut made = self.made.lock().await;
        if let Some(plan) = made.get(&revision) {
            return plan.clone();
        }
        let plan = match spec {
            Some(spec) => self.make(spec).await.map(Arc::new),
            None => Err(format!("revision {revision} of the pipeline is no longer in the log")),
        };
        made.insert(revision, plan.clone());
        plan
    }

    async fn make(&self, spec: &Spec) -> Result<Plan, String> {
        let inner = &self.service.inner;
        let past = Past(Outgrown { service: self.service, columns: None, grown: &spec.grown });
        let locks = spec.outline.as_ref().map(|outline| outline.modules.clone()).unwrap_or_default();
        let (registry, _) = self.service.registry_of(&locks).await;
        let compiled = compile(&spec.pipeline, &inner.functions, &registry, &past).await;
        let compiled = compiled.map_err(|problems| {
            format!("revision {} of the pipeline of job {} cannot be planned: {problems}", spec.revision, self.job)
        })?;
        let source = sources::open(&compiled.source, &inner.stores).await.map_err(|error| error.to_string());
        let modules = self.service.prepare_modules(&compiled, &registry).await.err().map(|error| error.to_string());
        Ok(Plan { compiled, source, modules })
    }
}

impl Plan {
    /// Why an epoch cannot be computed again as it was, if it cannot.
    pub fn hindrance(&self, intent: &Intent) -> Option<String> {
        if let Err(reason) = &self.source {
            return Some(format!("the source cannot be opened: {reason}"));
        }
        let other = |(name, lock): &(&String, &String)| self.compiled.modules.get(*name) != Some(*lock);
        if let Some((name, _)) = intent.modules.iter().find(other) {
            return Some(format!("module '{name}' is not the one that it ran with any more"));
        }
        self.modules.as_ref().filter(|_| !intent.modules.is_empty()).map(|reason| format!("its modules: {reason}"))
    }
}
