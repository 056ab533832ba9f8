//! Which executors have which versions of modules ready: environment built, workers up, module imported.
//!
//! Executors ask several times a second what they are to make ready, and say what is. So a version is warm before an
//! epoch calls it, and one that cannot be imported is refused before it takes over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redpoll_core::runtime::Version;
use redpoll_udfs::manifest::Module;
use redpoll_udfs::registry::Registry;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tracing::warn;

use super::{Error, Service};
use crate::pipeline::Compiled;

/// Longest time that a swap waits for executors: the building of environments. Then epochs call what is not ready, and
/// wait there.
const PATIENCE: Duration = Duration::from_secs(300);
/// An executor that was not heard of for so long is not waited for.
const SILENCE: Duration = Duration::from_secs(3);
/// Time for executors to be heard of at all.
const GRACE: Duration = Duration::from_secs(1);
/// Versions of one module that are kept ready: the one in use and the one before or after it.
const VERSIONS: usize = 2;

/// What an executor says of the versions it was asked to make ready, by fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Attendance {
    #[serde(default)]
    pub ready: BTreeSet<String>,
    /// With the reason.
    #[serde(default)]
    pub failed: BTreeMap<String, String>,
}

/// What executors are to make ready.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Awaited {
    pub versions: Vec<Version>,
}

#[derive(Default)]
pub(super) struct Readiness {
    books: Mutex<Books>,
    heard: Notify,
}

#[derive(Default)]
struct Books {
    /// By name of the module, the newest last.
    awaited: BTreeMap<String, Vec<Version>>,
    executors: BTreeMap<String, (Instant, Attendance)>,
}

/// How far the executors are.
#[derive(Debug, PartialEq)]
enum Stand {
    /// So many have all.
    Ready(usize),
    Waiting,
    Failed(String),
}

impl Readiness {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what an executor says, and tells it what it is to make ready.
    pub fn attend(&self, executor: &str, attendance: Attendance) -> Awaited {
        let mut books = self.books();
        let now = Instant::now();
        books.executors.retain(|_, (heard, _)| now - *heard < SILENCE);
        books.executors.insert(executor.to_owned(), (now, attendance));
        let awaited = Awaited { versions: books.awaited.values().flatten().cloned().collect() };
        drop(books);
        self.heard.notify_waiters();
        awaited
    }

    fn ask_for(&self, versions: &[Version]) {
        let mut books = self.books();
        for version in versions {
            let known = books.awaited.entry(version.module.clone()).or_default();
            known.retain(|other| other.lock != version.lock);
            known.push(version.clone());
            let n_old = known.len().saturating_sub(VERSIONS);
            known.drain(..n_old);
        }
    }

    /// Waits until every executor that is heard of has the versions ready, and tells how many those are. An error is
    /// why one of them cannot.
    async fn ready(&self, versions: &[Version], patience: Duration) -> Result<usize, String> {
        self.ask_for(versions);
        let begun = Instant::now();
        loop {
            let mut heard = std::pin::pin!(self.heard.notified());
            heard.as_mut().enable();
            match self.books().stand(versions, Instant::now()) {
                Stand::Failed(reason) => return Err(reason),
                Stand::Ready(0) if begun.elapsed() < GRACE => {}
                Stand::Ready(n) => return Ok(n),
                Stand::Waiting if begun.elapsed() >= patience => {
                    warn!(?versions, "executors are not ready yet; what is deployed takes over all the same");
                    return Ok(1);
                }
                Stand::Waiting => {}
            }
            // Whoever falls silent is no longer waited for.
            _ = tokio::time::timeout(GRACE / 2, heard).await;
        }
    }
}

impl Books {
    fn stand(&self, versions: &[Version], now: Instant) -> Stand {
        let mut n_ready = 0;
        let mut waits = false;
        for (executor, (_, attendance)) in self.executors.iter().filter(|(_, (heard, _))| now - *heard < SILENCE) {
            if let Some(version) = versions.iter().find(|version| attendance.failed.contains_key(&version.lock)) {
                let reason = &attendance.failed[&version.lock];
                return Stand::Failed(format!("executor {executor}: {reason}"));
            }
            match versions.iter().all(|version| attendance.ready.contains(&version.lock)) {
                true => n_ready += 1,
                false => waits = true,
            }
        }
        if waits { Stand::Waiting } else { Stand::Ready(n_ready) }
    }
}

impl Service {
    /// Notes what an executor says, and tells it what it is to make ready.
    pub fn attend(&self, executor: &str, attendance: Attendance) -> Awaited {
        self.inner.readiness.attend(executor, attendance)
    }

    /// Waits until the executors have the deployed modules of a plan ready. Where there are no executors, this process
    /// imports them.
    pub(super) async fn ready(&self, compiled: &Compiled, registry: &Registry) -> Result<(), Error> {
        let called = compiled.modules.keys().filter_map(|name| registry.get(name).ok());
        let deployed: Vec<_> = called.filter(|module| module.bundles.is_some()).cloned().collect();
        let version = |module: &Module| {
            let (module, lock, bundles) = (module.name.clone(), module.fingerprint.clone(), module.bundles.clone());
            Version { module, lock, bundles }
        };
        let versions: Vec<Version> = deployed.iter().map(|module| version(module)).collect();
        match versions.is_empty() {
            true => Ok(()),
            false => self.ready_versions(versions, deployed).await,
        }
    }

    /// The same of `modules`, by their versions.
    pub(super) async fn ready_versions(&self, versions: Vec<Version>, modules: Vec<Arc<Module>>) -> Result<(), Error> {
        match self.inner.readiness.ready(&versions, PATIENCE).await.map_err(Error::Refused)? {
            0 => self.import(modules).await,
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(lock: &str) -> Version {
        Version { module: "rise_rate".into(), lock: lock.into(), bundles: None }
    }

    fn with(ready: &[&str]) -> Attendance {
        Attendance { ready: ready.iter().map(ToString::to_string).collect(), ..Attendance::default() }
    }

    #[test]
    fn all_executors_that_are_heard_of_are_waited_for() {
        let readiness = Readiness::default();
        readiness.ask_for(&[version("one"), version("two"), version("three")]);
        let awaited = readiness.attend("a", with(&["two"]));
        assert_eq!(awaited.versions, [version("two"), version("three")]);
        readiness.attend("b", with(&["three"]));
        let stand = |wanted: &str, later: u64| {
            readiness.books().stand(&[version(wanted)], Instant::now() + Duration::from_secs(later))
        };
        assert_eq!(stand("three", 0), Stand::Waiting);
        readiness.attend("a", with(&["two", "three"]));
        assert_eq!(stand("three", 0), Stand::Ready(2));
        assert_eq!(stand("three", 60), Stand::Ready(0));
    }

    #[tokio::test]
    async fn one_that_cannot_import_a_version_is_told_with_its_reason() {
        let readiness = Readiness::default();
        let failed = [("three".to_owned(), "module rise_rate: no numpy".to_owned())].into();
        readiness.attend("a", Attendance { failed, ..Attendance::default() });
        let told = readiness.ready(&[version("three")], PATIENCE).await.unwrap_err();
        assert_eq!(told, "executor a: module rise_rate: no numpy");
    }
}
