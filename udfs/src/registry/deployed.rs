//! Modules and filters that were deployed to a warehouse, for all its schedulers and executors.
//!
//! ```text
//! <warehouse>/_redpoll/modules/registry/<20 digits>.json    all that is deployed, each object whole
//! <warehouse>/_redpoll/modules/bundles/<fingerprint>.tar.gz a version of a module; never altered
//! ```
//!
//! Who changes something reads the newest object and puts the next number, if that is absent: of two, one comes second
//! and looks again. Readers take the highest number, so that they see one change whole or not at all.

use std::path::Path as FilePath;
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use redpoll_core::objects::{self, Location, Stores};

use super::bundle;
use super::state::State;
use crate::manifest::Module;

/// Objects of the registry that are kept, for whoever asks what was deployed before.
const KEPT: u64 = 100;
/// How often a change is made again when others change the registry at the same time.
const TRIES: u32 = 50;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("registry of modules: {0}")]
    Location(#[from] objects::Error),
    #[error("registry of modules: {path}: {source}")]
    Store { path: Path, source: object_store::Error },
    #[error("registry of modules: {path} is no registry: {source}; restore it, or delete it to go back by one change")]
    Malformed { path: Path, source: serde_json::Error },
    #[error("registry of modules: others changed it {TRIES} times meanwhile; try again")]
    Contended,
    #[error("module {name}: {path}: {source}; deploy the module again")]
    Missing { name: String, path: Path, source: object_store::Error },
    #[error(transparent)]
    Bundle(#[from] bundle::Error),
    #[error("{0}")]
    Ended(String),
}

/// What is deployed to one warehouse; cheap to clone.
#[derive(Debug, Clone)]
pub struct Deployed {
    place: Location,
}

impl Deployed {
    /// Of a warehouse, by its URL or path. Nothing is asked or made yet.
    pub fn of(stores: &Stores, warehouse: &str) -> Result<Self, Error> {
        let mut place = stores.locate(warehouse)?;
        place.path = place.path.join("_redpoll").join("modules");
        if let Ok(mut segments) = place.url.path_segments_mut() {
            segments.pop_if_empty().extend(["_redpoll", "modules"]);
        }
        Ok(Self { place })
    }

    /// By the URL that plans carry, [`Module::bundles`].
    pub fn at(stores: &Stores, url: &str) -> Result<Self, Error> {
        Ok(Self { place: stores.locate(url)? })
    }

    /// What is deployed now.
    pub async fn read(&self) -> Result<State, Error> {
        Ok(self.newer(0).await?.unwrap_or_default())
    }

    /// What is deployed now, if that is another state than the one of this number. One request if it is not.
    pub async fn newer(&self, than: u64) -> Result<Option<State>, Error> {
        match self.numbers(than).await?.last() {
            // It was swept meanwhile by those after it.
            Some(newest) => match self.get(*newest).await {
                Err(Error::Store { source: object_store::Error::NotFound { .. }, .. }) => {
                    let Some(newest) = self.numbers(*newest).await?.last().copied() else { return Ok(None) };
                    self.get(newest).await.map(Some)
                }
                state => state.map(Some),
            },
            None => Ok(None),
        }
    }

    /// Makes a change to what is deployed by then; `change` is called again with a newer state if somebody else was
    /// first. What it refuses is its own error.
    pub async fn change<E: From<Error>>(
        &self,
        mut change: impl FnMut(&mut State) -> Result<String, E>,
    ) -> Result<State, E> {
        for _ in 0..TRIES {
            let mut state = self.read().await?;
            let before = state.clone();
            let what = change(&mut state)?;
            if state == before {
                return Ok(state);
            }
            state.number = before.number + 1;
            state.change = what;
            if self.put(&state).await? {
                self.sweep(state.number).await;
                return Ok(state);
            }
        }
        Err(Error::Contended.into())
    }

    /// Puts the module's files where every executor finds them, unless they are there. Nothing uses them yet.
    pub async fn upload(&self, module: &Arc<Module>) -> Result<(), Error> {
        let path = self.bundle(&module.fingerprint);
        if self.place.store.head(&path).await.is_ok() {
            return Ok(());
        }
        let packing = module.clone();
        let bytes = blocking(move || bundle::pack(&packing)).await??;
        self.put_bundle(&module.fingerprint, bytes).await
    }

    /// Puts a bundle that was packed elsewhere, unless it is there.
    pub async fn put_bundle(&self, fingerprint: &str, bytes: Vec<u8>) -> Result<(), Error> {
        let path = self.bundle(fingerprint);
        match self.place.store.put_opts(&path, PutPayload::from(bytes), PutMode::Create.into()).await {
            Ok(_) | Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(()),
            Err(source) => Err(Error::Store { path, source }),
        }
    }

    /// The module of a bundle, unpacked below `cache` unless it is there.
    pub async fn fetch(&self, name: &str, fingerprint: &str, cache: &FilePath) -> Result<Arc<Module>, Error> {
        let (dir, wanted) = (cache.join("modules"), fingerprint.to_owned());
        let (looked, sought) = (dir.clone(), wanted.clone());
        if let Some(module) = blocking(move || bundle::unpacked(&sought, &looked)).await? {
            return Ok(self.owned(module));
        }
        let path = self.bundle(fingerprint);
        let missing = |source| Error::Missing { name: name.to_owned(), path: path.clone(), source };
        let read = async { self.place.store.get(&path).await?.bytes().await };
        let bytes = read.await.map_err(missing)?;
        let module = blocking(move || bundle::unpack(&bytes, &wanted, &dir)).await??;
        Ok(self.owned(module))
    }

    /// Every module that is deployed, in the version that is in use.
    pub async fn modules(&self, state: &State, cache: &FilePath) -> Result<Vec<Arc<Module>>, Error> {
        let mut modules = Vec::new();
        for (name, module) in &state.modules {
            modules.push(self.fetch(name, &module.fingerprint, cache).await?);
        }
        Ok(modules)
    }

    fn owned(&self, module: Arc<Module>) -> Arc<Module> {
        Arc::new(Module { bundles: Some(self.place.url.to_string()), ..Arc::unwrap_or_clone(module) })
    }

    /// Puts a state under its number; false if the number is taken by now.
    async fn put(&self, state: &State) -> Result<bool, Error> {
        let path = self.state(state.number);
        let body = serde_json::to_vec_pretty(state).map_err(|source| Error::Malformed { path: path.clone(), source })?;
        match self.place.store.put_opts(&path, PutPayload::from(body), PutMode::Create.into()).await {
            Ok(_) => {}
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                // The answer of an earlier try may have been lost.
                return Ok(self.get(state.number).await? == *state);
            }
            Err(source) => return Err(Error::Store { path, source }),
        }
        // The number was free because it is swept: this writer slept through all changes since.
        let newest = self.numbers(state.number).await?.last().copied().unwrap_or(state.number);
        if newest < state.number + KEPT {
            return Ok(true);
        }
        self.place.store.delete(&path).await.map_err(|source| Error::Store { path, source })?;
        Ok(false)
    }

    async fn get(&self, number: u64) -> Result<State, Error> {
        let path = self.state(number);
        let read = async { self.place.store.get(&path).await?.bytes().await };
        let bytes = read.await.map_err(|source| Error::Store { path: path.clone(), source })?;
        let state: State = serde_json::from_slice(&bytes).map_err(|source| Error::Malformed { path, source })?;
        Ok(State { number, ..state })
    }

    /// Numbers of the objects after this one, in order.
    async fn numbers(&self, after: u64) -> Result<Vec<u64>, Error> {
        let prefix = self.place.path.clone().join("registry");
        let objects = self.place.store.list_with_offset(Some(&prefix), &self.state(after));
        let names = objects.map_ok(|object| redpoll_core::log::seq_of(&object.location)).try_collect::<Vec<_>>();
        let names = names.await.map_err(|source| Error::Store { path: prefix, source })?;
        let mut numbers: Vec<u64> = names.into_iter().flatten().collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// It is for tidiness: whoever changes the registry next tries again.
    async fn sweep(&self, newest: u64) {
        let Ok(numbers) = self.numbers(0).await else { return };
        for old in numbers.into_iter().filter(|number| number + KEPT < newest) {
            _ = self.place.store.delete(&self.state(old)).await;
        }
    }

    fn state(&self, number: u64) -> Path {
        self.place.path.clone().join("registry").join(format!("{number:020}.json"))
    }

    fn bundle(&self, fingerprint: &str) -> Path {
        self.place.path.clone().join("bundles").join(format!("{fingerprint}.tar.gz"))
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::Ended(error.to_string()))
}

#[cfg(test)]
mod tests;
