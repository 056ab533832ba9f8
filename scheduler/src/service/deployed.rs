//! What is deployed to the warehouse, as this scheduler has it: read when a job begins, and twice a second while jobs run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use redpoll_core::protocol::Pipeline;
use redpoll_udfs::registry::{DeployedError, Registry, State};
use tracing::warn;

use super::{Error, Inner, Service};
use crate::coordinator::revision::Meant;
use crate::pipeline::{Problems, filters};

/// How often the registry is asked for changes by others.
const POLL: Duration = Duration::from_millis(500);

/// What is deployed, with the modules that pipelines call.
pub(super) struct Current {
    pub state: State,
    /// Deployed modules before those that the process was started with.
    pub registry: Registry,
}

impl Current {
    /// A job's pipeline with the filters that are deployed to it, in the place of those that it had.
    pub fn pipeline(&self, job: &str, pipeline: Pipeline) -> Result<Pipeline, Problems> {
        let filters = self.state.filters_of(job);
        let filters = filters.map(|(name, filter)| Ok((name.clone(), filters::statements(name, filter)?)));
        Ok(Pipeline { filters: filters.collect::<Result<_, Problems>>()?, ..pipeline })
    }

    /// What whoever deployed it means to change, between a pipeline and the one before it.
    pub fn meant(&self, before: Option<&Pipeline>, after: &Pipeline) -> Meant {
        let tables = before.into_iter().chain([after]).flat_map(|pipeline| pipeline.filters.keys().cloned());
        Meant { modules: self.state.modules.keys().cloned().collect(), tables: tables.collect::<BTreeSet<_>>() }
    }
}

impl Service {
    pub(super) fn current(&self) -> Arc<Current> {
        self.inner.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is deployed now. Modules that are new are fetched.
    pub(super) async fn look(&self) -> Result<Arc<Current>, Error> {
        let known = self.current();
        let newer = self.inner.deployed.newer(known.state.number).await.map_err(failed)?;
        let Some(state) = newer else { return Ok(known) };
        let current = Arc::new(self.with(state).await?);
        let mut place = self.inner.current.write().unwrap_or_else(PoisonError::into_inner);
        // Somebody who looked at the same time may have seen more.
        if place.state.number < current.state.number {
            *place = current;
        }
        Ok(place.clone())
    }

    /// As it would be with that state.
    pub(super) async fn with(&self, state: State) -> Result<Current, Error> {
        let modules = self.inner.deployed.modules(&state, &self.inner.config.cache).await.map_err(failed)?;
        Ok(Current { registry: self.inner.registry.with(modules), state })
    }

    /// The modules of these fingerprints, by name, and whether all are there. Those that are not are as they are now.
    pub(super) async fn registry_of(&self, locks: &BTreeMap<String, String>) -> (Registry, bool) {
        let Inner { registry: own, deployed, config, .. } = self.inner.as_ref();
        let current = self.current().registry.clone();
        let (mut others, mut complete) = (Vec::new(), true);
        for (name, lock) in locks {
            let is_it = |registry: &Registry| registry.get(name).ok().filter(|module| module.fingerprint == *lock).cloned();
            match (is_it(&current), is_it(own)) {
                (Some(_), _) => {}
                (None, Some(own)) => others.push(own),
                (None, None) => match deployed.fetch(name, lock, &config.cache).await {
                    Ok(module) => others.push(module),
                    Err(_) => complete = false,
                },
            }
        }
        (current.with(others), complete)
    }

    /// Takes over what others deploy, for as long as the service is there.
    pub(super) fn watch_deployments(&self) {
        let service = Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            let mut told = None;
            loop {
                tokio::time::sleep(POLL).await;
                let Some(inner) = Weak::upgrade(&service) else { return };
                let failed = Service { inner }.follow_deployments().await.err().map(|error| error.to_string());
                if let Some(reason) = failed.as_ref().filter(|_| failed != told) {
                    warn!(reason, "what is deployed cannot be read; jobs go on as they are");
                }
                told = failed;
            }
        });
    }

    async fn follow_deployments(&self) -> Result<(), Error> {
        if self.inner.jobs.lock().await.values().all(|job| job.is_over()) {
            return Ok(());
        }
        let _one = self.inner.deploying.lock().await;
        let current = self.look().await?;
        self.bring_jobs_to(&current).await;
        Ok(())
    }
}

pub(super) fn failed(error: DeployedError) -> Error {
    match error {
        DeployedError::Bundle(error) => Error::Refused(error.to_string()),
        error => Error::Failed { what: "deployment".to_owned(), reason: error.to_string() },
    }
}
