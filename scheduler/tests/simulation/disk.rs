//! The object store: everything of `InMemory`, asked over a network that fails, delays and reorders.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chrono::DateTime;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryFutureExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::check::Checks;
use super::hazards::Hazards;
use super::sim::{Broken, Process, Sim, lock};

/// The disk behind all stores of a simulation.
pub struct Disk {
    sim: Sim,
    objects: InMemory,
    /// When each object was put, in virtual time.
    times: Mutex<BTreeMap<Path, i64>>,
    checks: Arc<Checks>,
    /// A mutant: numbers of a log that are taken are written again.
    pub overwrites_logs: bool,
}

/// The disk as one process sees it.
#[derive(Clone)]
pub struct Store {
    pub disk: Arc<Disk>,
    pub process: Process,
    pub hazards: Arc<Hazards>,
}

impl Disk {
    pub fn new(sim: Sim, checks: Arc<Checks>, overwrites_logs: bool) -> Arc<Self> {
        Arc::new(Self { sim, objects: InMemory::new(), times: Mutex::default(), checks, overwrites_logs })
    }

    fn put(&self, by: Process, path: &Path, payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        let bytes: bytes::Bytes = payload.clone().into();
        if self.overwrites_logs && path.as_ref().contains("/log/") {
            options.mode = PutMode::Overwrite;
        }
        let put = done(self.objects.put_opts(path, payload, options))?;
        lock(&self.times).insert(path.clone(), self.sim.now());
        self.sim.event(format_args!("{by} has put {}", short(path)));
        self.checks.put(by, path, &bytes);
        Ok(put)
    }

    fn dated(&self, mut meta: ObjectMeta) -> ObjectMeta {
        let millis = lock(&self.times).get(&meta.location).copied().unwrap_or_default();
        meta.last_modified = DateTime::from_timestamp_millis(millis).unwrap_or_default();
        meta
    }

    fn get(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let got = done(self.objects.get_opts(path, options))?;
        let (meta, range, attributes) = (self.dated(got.meta.clone()), got.range.clone(), got.attributes.clone());
        let bytes = done(got.bytes())?;
        let payload = GetResultPayload::Stream(futures::stream::iter([Ok(bytes)]).boxed());
        Ok(GetResult { payload, meta, range, attributes })
    }

    fn list(&self, prefix: Option<&Path>) -> Result<Vec<ObjectMeta>> {
        let found: Vec<ObjectMeta> = done(self.objects.list(prefix).try_collect())?;
        Ok(found.into_iter().map(|meta| self.dated(meta)).collect())
    }
}

/// `InMemory` never waits.
fn done<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("the store in memory answers at once")
}

/// The part of a path that tells objects of one job apart.
pub fn short(path: &Path) -> &str {
    let path = path.as_ref();
    path.strip_prefix("warehouse/_redpoll/jobs/ztf/").or(path.strip_prefix("warehouse/")).unwrap_or(path)
}

fn broken(what: String) -> impl Fn(Broken) -> Error + Send + 'static {
    move |_| Error::Generic { store: "simulated", source: format!("{what}: 503 Slow Down").into() }
}

impl Store {
    async fn ask<T: Send + 'static>(
        &self,
        what: String,
        effect: impl Fn(&Disk) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let disk = self.disk.clone();
        let hazard = self.hazards.store();
        self.disk.sim.request(self.process, hazard, (move || effect(&disk), broken(what))).await
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("simulated")
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the store of {}", self.process)
    }
}

#[async_trait]
impl ObjectStore for Store {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let (path, by, conditional) = (location.clone(), self.process, options.mode == PutMode::Create);
        let hazard = self.hazards.store();
        let disk = self.disk.clone();
        let put = move || disk.put(by, &path, payload.clone(), options.clone());
        let path = location.clone();
        let what = format!("PUT {location}");
        let retries = conditional && self.disk.sim.chance(0.5);
        let broken = move |broken: Broken| match broken {
            // A client that tries again by itself finds its own object.
            Broken::After if retries => Error::AlreadyExists { path: path.to_string(), source: "412".into() },
            _ => Error::Generic { store: "simulated", source: format!("{what}: 503 Slow Down").into() },
        };
        self.disk.sim.request(self.process, hazard, (put, broken)).await
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(Error::NotImplemented { operation: "put_multipart".into(), implementer: self.to_string() })
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let path = location.clone();
        self.ask(format!("GET {location}"), move |disk| disk.get(&path, options.clone())).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |location: Result<Path>| {
            let store = store.clone();
            async move {
                let location = location?;
                let (path, by) = (location.clone(), store.process);
                let delete = move |disk: &Disk| {
                    disk.sim.event(format_args!("{by} has deleted {}", short(&path)));
                    disk.checks.deleted(&path);
                    let one = futures::stream::iter([Ok(path.clone())]).boxed();
                    done(disk.objects.delete_stream(one).try_collect::<Vec<_>>()).map(|_| ())
                };
                store.ask(format!("DELETE {location}"), delete).await?;
                Ok(location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix) = (self.clone(), prefix.cloned());
        let what = format!("LIST {}", prefix.as_ref().map_or("", Path::as_ref));
        let listed = async move { store.ask(what, move |disk| disk.list(prefix.as_ref())).await };
        let metas = listed.map_ok(|metas| futures::stream::iter(metas.into_iter().map(Ok)));
        futures::stream::once(metas).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let prefix = prefix.cloned();
        self.ask("LIST /".into(), move |disk| done(disk.objects.list_with_delimiter(prefix.as_ref()))).await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(Error::NotImplemented { operation: "copy".into(), implementer: self.to_string() })
    }
}
