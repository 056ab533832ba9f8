//! Science modules deployed while jobs run: checked against them first, then taken over between two epochs.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::Utc;
use redpoll_core::runtime::Version;
use redpoll_udfs::environment;
use redpoll_udfs::manifest::{Module, nearest_name};
use redpoll_udfs::registry::{Deployment, Filter, State};
use serde::{Deserialize, Serialize};

use super::deployed::{Current, failed};
use super::{Error, Service};

/// A version of a module that is to be used, whose bundle is in the warehouse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanting {
    pub name: String,
    pub fingerprint: String,
    /// Nothing is deployed; only what stands in the way is told.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a running job made of what was deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// It runs by it, from that epoch on.
    Taken { revision: u32, epoch: u64, changes: Vec<String> },
    /// None of its rows differ.
    Unchanged,
    /// It takes it over when the epoch under way ends.
    Pending,
    /// It goes on as it was.
    Refused { reason: String },
    /// It goes on as it was, and tries again.
    Failed { reason: String },
}

/// A module that pipelines can call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    pub name: String,
    pub survey: String,
    pub about: String,
    pub fingerprint: String,
    /// Modules of equal environments share workers.
    pub environment: String,
    /// When it was deployed, milliseconds since 1970-01-01 UTC; none of a module that the scheduler was started with.
    pub added_at: Option<i64>,
    /// Running jobs that call it.
    pub jobs: Vec<String>,
}

impl Service {
    /// Every module that pipelines can call, in order of names.
    pub async fn modules(&self) -> Result<Vec<Known>, Error> {
        let current = self.look().await?;
        let live = self.live_jobs().await;
        let known = |module: &Arc<Module>| Known {
            name: module.name.clone(),
            survey: module.survey.clone(),
            about: module.about.clone(),
            fingerprint: module.fingerprint.clone(),
            environment: environment::key(&module.environment),
            added_at: current.state.modules.get(&module.name).map(|deployment| deployment.added_at),
            jobs: live
                .iter()
                .filter(|(_, live)| live.cluster.compiled().modules.contains_key(&module.name))
                .map(|(job, _)| job.clone())
                .collect(),
        };
        Ok(current.registry.iter().map(known).collect())
    }

    /// Keeps a bundle for whoever deploys it next. One that is no module of that fingerprint is refused.
    pub async fn keep_bundle(&self, fingerprint: &str, bytes: Vec<u8>) -> Result<(), Error> {
        let (wanted, dir) = (fingerprint.to_owned(), self.inner.config.cache.join("modules"));
        let checked = bytes.clone();
        let unpacked = tokio::task::spawn_blocking(move || redpoll_udfs::registry::unpack(&checked, &wanted, &dir));
        let unpacked = unpacked.await.map_err(|error| Error::failed("bundle", error))?;
        unpacked.map_err(|error| Error::Refused(error.to_string()))?;
        self.inner.deployed.put_bundle(fingerprint, bytes).await.map_err(failed)
    }

    /// Deploys a version of a module: refused if an executor cannot import it or a running job cannot be planned with
    /// it; else running jobs take it over between two epochs. What each made of it comes back.
    pub async fn deploy_module(&self, wanting: Wanting) -> Result<BTreeMap<String, Outcome>, Error> {
        let Wanting { name, fingerprint, dry_run } = wanting;
        let module = self.inner.deployed.fetch(&name, &fingerprint, &self.inner.config.cache).await.map_err(failed)?;
        if module.name != name {
            return Err(Error::Refused(format!("bundle {fingerprint} is module '{}', not '{name}'", module.name)));
        }
        let environment = environment::key(&module.environment);
        let added_at = Utc::now().timestamp_millis();
        let deployment = Deployment { fingerprint, environment, added_at, shadow: None };
        let what = format!("module {name} is deployed");
        let change = |state: &mut State| {
            if state.modules.get(&name).is_some_and(|known| known.fingerprint == deployment.fingerprint) {
                return Ok(what.clone());
            }
            state.modules.insert(name.clone(), deployment.clone());
            Ok(what.clone())
        };
        self.import_everywhere(&module).await?;
        self.deploy(change, dry_run).await
    }

    /// Takes a deployed module out of use. The version that processes were started with comes back, if there is one.
    pub async fn remove_module(&self, name: &str) -> Result<BTreeMap<String, Outcome>, Error> {
        let change = |state: &mut State| match state.modules.remove(name) {
            Some(_) => Ok(format!("module {name} is removed")),
            None if self.inner.registry.get(name).is_ok() => Err(Error::Refused(format!(
                "module '{name}' is of a folder of modules that processes were started with; start them without it"
            ))),
            None => Err(absent("module", name, state.modules.keys())),
        };
        self.deploy(change, false).await
    }

    /// The filters of all jobs, by name.
    pub async fn filters(&self) -> Result<BTreeMap<String, Filter>, Error> {
        Ok(self.look().await?.state.filters.clone())
    }

    /// Changes what is deployed, unless a running job cannot be planned with it.
    pub(super) async fn deploy(
        &self,
        mut change: impl FnMut(&mut State) -> Result<String, Error>,
        dry_run: bool,
    ) -> Result<BTreeMap<String, Outcome>, Error> {
        let _one = self.inner.deploying.lock().await;
        let mut state = self.look().await?.state.clone();
        change(&mut state)?;
        self.refuse_what_cannot_be_planned(&self.with(state).await?).await?;
        if dry_run {
            return Ok(BTreeMap::new());
        }
        self.inner.deployed.change(&mut change).await?;
        let current = self.look().await?;
        Ok(self.bring_jobs_to(&current).await)
    }

    async fn refuse_what_cannot_be_planned(&self, wanted: &Current) -> Result<(), Error> {
        for (job, live) in self.live_jobs().await {
            // One that does not go on with what there is already is not in the way of what may mend it.
            let before = live.refused.is_some();
            match self.replan(&job, &live, wanted).await {
                Err(Error::Pipeline(problems)) if !before => return Err(Error::Pipeline(problems)),
                Err(error) if !before => {
                    return Err(Error::Refused(format!("job '{job}' cannot go on with it: {error}")));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Imports a version where it would be called.
    async fn import_everywhere(&self, module: &Arc<Module>) -> Result<(), Error> {
        let (name, lock, bundles) = (module.name.clone(), module.fingerprint.clone(), module.bundles.clone());
        self.ready_versions(vec![Version { module: name, lock, bundles }], vec![module.clone()]).await
    }
}

impl From<redpoll_udfs::registry::DeployedError> for Error {
    fn from(error: redpoll_udfs::registry::DeployedError) -> Self {
        failed(error)
    }
}

/// There is nothing of that name deployed.
pub(super) fn absent<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a String>) -> Error {
    let near = nearest_name(name, known.map(String::as_str));
    let remedy = near.map_or(String::new(), |near| format!(": did you mean '{near}'?"));
    Error::Refused(format!("there is no {what} '{name}' deployed to this warehouse{remedy}"))
}
