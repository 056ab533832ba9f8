//! The catalogues that a process looks alerts up in, each opened once.
//!
//! An index that was built beside its catalogue is read where it is. Of any other catalogue one is built in a folder of
//! this machine, under a name made of location and lock: another process of the machine finds it there, and what it was
//! made from may change meanwhile.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array};
use arrow::datatypes::DataType;
use dashmap::DashMap;
use redpoll_core::catalog::{Catalog, Cone};
use redpoll_core::objects::{Location, Stores};
use tokio::sync::OnceCell;
use tracing::info;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use super::Error;
use super::build::{Limits, build};
use super::groups::Groups;
use super::index::{Index, Manifest};
use super::look_up::look_up;
use super::source::{Kind, Source, locate, open};

/// Catalogues that are kept open.
const MAX_OPEN: usize = 64;

#[derive(Debug, Clone)]
pub struct Config {
    /// Where indexes are built that the catalogue's owner did not build.
    pub folder: PathBuf,
    /// Bytes of row groups that are kept in memory. A build takes as many for the time it needs.
    pub memory: usize,
}

impl Config {
    /// Below the cache of a process, with a memory that small catalogues and one telescope's pointings fit into.
    pub fn new(cache: &Path) -> Self {
        Self { folder: cache.join("catalogs"), memory: 256 << 20 }
    }
}

/// Indexes that are open, and the row groups that were read.
pub struct Catalogs {
    config: Config,
    stores: Arc<Stores>,
    open: DashMap<Catalog, Arc<OnceCell<Arc<Index>>>>,
    groups: Groups,
}

impl Catalogs {
    pub fn new(config: Config, stores: Arc<Stores>) -> Self {
        let groups = Groups::new(config.memory);
        Self { config, stores, open: DashMap::new(), groups }
    }

    /// What a catalogue has within the cones around positions, in degrees: `returns` is [`Cone::returns`] of some of
    /// its columns, and so is the result.
    pub async fn crossmatch(
        &self,
        catalog: &Catalog,
        cone: Cone,
        returns: &DataType,
        ra: &Float64Array,
        dec: &Float64Array,
    ) -> Result<ArrayRef, Error> {
        let index = self.index(catalog).await?;
        look_up(&index, &self.groups, cone, returns, (ra, dec)).await
    }

    #[cfg(test)]
    pub(super) fn kept_bytes(&self) -> usize {
        self.groups.bytes()
    }

    /// Opens the index of a catalogue, and builds it if there is none.
    async fn index(&self, catalog: &Catalog) -> Result<Arc<Index>, Error> {
        if self.open.len() >= MAX_OPEN && !self.open.contains_key(catalog) {
            self.open.clear();
        }
        let cell = self.open.entry(catalog.clone()).or_default().clone();
        cell.get_or_try_init(|| self.find(catalog)).await.cloned()
    }

    async fn find(&self, catalog: &Catalog) -> Result<Arc<Index>, Error> {
        let folder = self.config.folder.join(name(catalog));
        if let Some((manifest, _)) = Manifest::read(&self.at(&folder)?).await? {
            return Ok(Arc::new(Index::new(self.at(&folder)?, manifest)));
        }
        let Catalog { spec, lock } = catalog;
        let source = open(spec, &self.stores, Some(lock)).await?;
        if source.catalog.lock != *lock {
            let (url, found, wanted) = (spec.url.clone(), source.catalog.lock, lock.clone());
            return Err(Error::Replaced { url, found, wanted });
        }
        match &source.kind {
            Kind::Index(manifest) => Ok(Arc::new(Index::new(locate(&spec.url, &self.stores)?, manifest.clone()))),
            Kind::Files(_) | Kind::Delta(_) => self.build(&source, &folder).await,
        }
    }

    /// Built under another name and then renamed: who finds the folder finds all of it.
    async fn build(&self, source: &Source, folder: &Path) -> Result<Arc<Index>, Error> {
        let making = folder.with_extension(Uuid::new_v4().simple().to_string());
        let failed = |source| Error::Folder { path: making.clone(), source };
        tokio::fs::create_dir_all(&making).await.map_err(failed)?;
        let spill = making.join("spill");
        let limits = Limits { memory: self.config.memory.max(MIN_BUILD), spill: spill.clone() };
        let begun = std::time::Instant::now();
        let built = build(source, &self.stores, &self.at(&making)?, &limits).await;
        _ = tokio::fs::remove_dir_all(&spill).await;
        let built = match built {
            Ok(built) => built,
            Err(error) => {
                _ = tokio::fs::remove_dir_all(&making).await;
                return Err(error);
            }
        };
        let (catalog, seconds) = (&source.catalog.spec.name, begun.elapsed().as_secs_f64());
        info!(catalog, rows = built.rows, left_out = built.left_out, bytes = built.bytes, seconds, "catalogue indexed");
        if let Err(error) = tokio::fs::rename(&making, folder).await {
            _ = tokio::fs::remove_dir_all(&making).await;
            // Another process of this machine was first.
            if !folder.exists() {
                return Err(failed(error));
            }
        }
        let at = self.at(folder)?;
        let reason = "it is gone again".to_owned();
        let gone = || Error::Index { url: at.url.to_string(), reason };
        let (manifest, _) = Manifest::read(&at).await?.ok_or_else(gone)?;
        Ok(Arc::new(Index::new(at, manifest)))
    }

    fn at(&self, folder: &Path) -> Result<Location, Error> {
        locate(&folder.to_string_lossy(), &self.stores)
    }
}

/// Less does not sort.
const MIN_BUILD: usize = 128 << 20;

/// A name for what is built of a catalogue: all that it depends on.
fn name(catalog: &Catalog) -> String {
    let Catalog { spec, lock } = catalog;
    let all = format!("{} {lock} {:?} {:?} {:?}", spec.url, spec.ra, spec.dec, spec.columns);
    format!("{:016x}", xxh3_64(all.as_bytes()))
}
