//! Where objects live: plain paths, `file://` and `s3://` URLs behind one map from URL to object store.
//!
//! Scheduler, executors and connectors share this map's code and configuration, so a location means the same object
//! wherever it is read. Stores are built when a bucket is first named and then kept: a client and its connections
//! are shared by all that use the bucket. As DataFusion's registry it serves plans that name buckets nobody announced.

mod durable;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Component, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use datafusion::error::DataFusionError;
use datafusion::execution::object_store::ObjectStoreRegistry;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use url::Url;

pub use durable::Durable;

/// How long an object store over the network may keep whoever asks it waiting. Requests that failed with a 5xx, a reset
/// or no answer are sent again with growing pauses and jitter, and then the error goes to the caller: a job tries its
/// step again, with pauses of its own.
///
/// A put-if-absent whose answer is lost is not sent again here: the caller looks whether it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Times that a request is sent again.
    pub retries: usize,
    /// After this long it is not sent again.
    pub retry_time: Duration,
    /// How long one request may take, to the last byte of its answer.
    pub timeout: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { retries: 10, retry_time: Duration::from_secs(30), timeout: Duration::from_secs(30) }
    }
}

static PATIENCE: OnceLock<Patience> = OnceLock::new();

impl Patience {
    /// The pause before the first retry, and the longest.
    pub const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

    /// Of all stores that this process opens from now on. Called once, at the start of a process.
    pub fn set(self) {
        PATIENCE.get_or_init(|| self);
    }

    /// That of this process.
    pub fn of_process() -> Self {
        PATIENCE.get().copied().unwrap_or_default()
    }

    fn retry(&self) -> RetryConfig {
        let (init_backoff, max_backoff) = Self::PAUSES;
        let backoff = BackoffConfig { init_backoff, max_backoff, ..BackoffConfig::default() };
        RetryConfig { backoff, max_retries: self.retries, retry_timeout: self.retry_time }
    }
}

/// An object or a folder of objects in a store.
#[derive(Clone)]
pub struct Location {
    pub store: Arc<dyn ObjectStore>,
    /// The key within the store; of a local file its absolute path.
    pub path: Path,
    /// The whole location, `file:///…` for local paths.
    pub url: Url,
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.url)
    }
}

/// The stores that this process has used so far, and how to build others.
pub struct Stores {
    options: BTreeMap<String, String>,
    local: Arc<dyn ObjectStore>,
    built: RwLock<HashMap<String, Arc<dyn ObjectStore>>>,
}

/// Options hold keys of accounts, so only their names are shown.
impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stores").field("options", &self.options.keys().collect::<Vec<_>>()).finish_non_exhaustive()
    }
}

impl Default for Stores {
    fn default() -> Self {
        Self::new(std::iter::empty())
    }
}

impl Stores {
    /// `options` are S3 settings by the names of the AWS tools, such as `AWS_ENDPOINT_URL` or `AWS_REGION`, in any
    /// case; names that the S3 client does not know are ignored, so the environment may be passed as it is.
    /// An endpoint with `http://` allows plain HTTP.
    pub fn new(options: impl IntoIterator<Item = (String, String)>) -> Self {
        let options = options.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value));
        let options = options.filter(|(name, _)| name.starts_with("aws_")).collect();
        Self { options, local: Arc::new(Durable::default()), built: RwLock::default() }
    }

    /// Finds the store and the key of a URL or a local path; a relative path starts at the working directory.
    pub fn locate(&self, location: &str) -> Result<Location, Error> {
        let url = parse(location)?;
        let path = Path::from_url_path(url.path())
            .map_err(|e| Error::Malformed { location: location.into(), reason: e.to_string() })?;
        Ok(Location { store: self.store(&url)?, path, url })
    }

    /// The store that holds `url`, built on first use.
    pub fn store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>, Error> {
        if url.scheme() == "file" {
            return Ok(self.local.clone());
        }
        if let Some(store) = self.built.read().unwrap_or_else(PoisonError::into_inner).get(&key(url)) {
            return Ok(store.clone());
        }
        let store = match (url.scheme(), url.host_str()) {
            ("s3" | "s3a", Some(bucket)) => self.bucket(url, bucket)?,
            _ => return Err(Error::Scheme { url: url.to_string(), scheme: url.scheme().into() }),
        };
        let mut built = self.built.write().unwrap_or_else(PoisonError::into_inner);
        Ok(built.entry(key(url)).or_insert(store).clone())
    }

    fn bucket(&self, url: &Url, bucket: &str) -> Result<Arc<dyn ObjectStore>, Error> {
        let patience = Patience::of_process();
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_client_options(ClientOptions::new().with_timeout(patience.timeout))
            .with_retry(patience.retry());
        for (name, value) in &self.options {
            if let Ok(option) = AmazonS3ConfigKey::from_str(name) {
                builder = builder.with_config(option, value);
            }
            if name.starts_with("aws_endpoint") && value.starts_with("http://") {
                builder = builder.with_allow_http(true);
            }
        }
        let store = builder.build().map_err(|source| Error::Build { url: url.to_string(), source })?;
        Ok(Arc::new(store))
    }
}

impl ObjectStoreRegistry for Stores {
    fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        self.built.write().unwrap_or_else(PoisonError::into_inner).insert(key(url), store)
    }

    fn get_store(&self, url: &Url) -> datafusion::error::Result<Arc<dyn ObjectStore>> {
        self.store(url).map_err(|e| DataFusionError::External(Box::new(e)))
    }
}

/// The URL of a location: as written when it has a scheme, else of the local path.
pub fn parse(location: &str) -> Result<Url, Error> {
    let malformed = |reason: String| Error::Malformed { location: location.into(), reason };
    if location.contains("://") {
        return Url::parse(location).map_err(|e| malformed(e.to_string()));
    }
    let absolute = std::path::absolute(location).map_err(|e| malformed(e.to_string()))?;
    let mut path = PathBuf::new();
    for part in absolute.components() {
        match part {
            Component::ParentDir => _ = path.pop(),
            part => path.push(part),
        }
    }
    Url::from_file_path(path).map_err(|()| malformed("not a path".into()))
}

/// A store serves one bucket or host, whatever the key and the credentials in the URL.
fn key(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default())
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("'{location}' is neither a path nor a url: {reason}")]
    Malformed { location: String, reason: String },
    #[error("{url}: nothing stores objects under '{scheme}://'; use a path, file:// or s3://bucket/")]
    Scheme { url: String, scheme: String },
    #[error("{url}: {source}; check the AWS_* settings")]
    Build { url: String, source: object_store::Error },
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;

    use super::*;

    fn s3() -> Stores {
        let options = [
            ("AWS_ENDPOINT_URL", "http://localhost:9000"),
            ("AWS_ACCESS_KEY_ID", "a"),
            ("AWS_SECRET_ACCESS_KEY", "b"),
            ("HOME", "/x"),
        ];
        Stores::new(options.map(|(name, value)| (name.into(), value.into())))
    }

    #[test]
    fn a_relative_path_is_a_file_below_the_working_directory() {
        let located = Stores::default().locate("night/../2024/raw").unwrap();
        let expected = std::env::current_dir().unwrap().join("2024/raw");
        assert_eq!(located.url.to_file_path().unwrap(), expected);
        assert_eq!(format!("/{}", located.path), expected.to_str().unwrap());
    }

    #[test]
    fn buckets_are_built_once_and_apart() {
        let stores = s3();
        let (a, b) = (stores.locate("s3://archive/ztf/raw").unwrap(), stores.locate("s3://archive/other").unwrap());
        assert_eq!(a.path.as_ref(), "ztf/raw");
        assert!(Arc::ptr_eq(&a.store, &b.store));
        assert!(!Arc::ptr_eq(&a.store, &stores.locate("s3://other/x").unwrap().store));
    }

    #[test]
    fn an_unknown_scheme_names_the_remedy() {
        let error = s3().locate("gopher://x/y").unwrap_err().to_string();
        assert!(error.contains("'gopher://'") && error.contains("s3://bucket/"), "{error}");
    }

    #[test]
    fn keys_of_accounts_are_not_shown() {
        let shown = format!("{:?}", s3());
        assert!(shown.contains("aws_access_key_id") && !shown.contains("localhost") && !shown.contains("home"));
    }

    #[tokio::test]
    async fn datafusion_writes_and_reads_through_the_registry() {
        let stores = Arc::new(Stores::default());
        let file = std::env::temp_dir().join(format!("{}.txt", uuid::Uuid::new_v4()));
        let located = stores.locate(file.to_str().unwrap()).unwrap();
        located.store.put(&located.path, "candid".into()).await.unwrap();
        let store = stores.get_store(&Url::parse("file:///").unwrap()).unwrap();
        assert_eq!(store.get(&located.path).await.unwrap().bytes().await.unwrap(), "candid");
        store.delete(&located.path).await.unwrap();
    }
}
