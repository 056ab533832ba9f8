use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::net::TcpListener;

use super::client::Retry;
use super::*;
use crate::widecolumn::conformance::{self, batch, read};
use crate::widecolumn::{Backend, Batch, Error, Scan};

/// Serves a backend on a free port; its client.
async fn served(backend: Arc<dyn Backend>) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("store://{}", listener.local_addr().unwrap());
    tokio::spawn(Service::new(backend).serve(listener, pending()));
    Client::new(&address).unwrap().with_retry(Retry { tries: 4, delay: Duration::from_millis(1) })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_a_conforming_store() {
    let folder = tempfile::tempdir().unwrap();
    conformance::check(Arc::new(Store::open(folder.path()).unwrap())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_another_process_is_a_conforming_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    conformance::check(Arc::new(served(Arc::new(store)).await)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_put_is_there_when_the_folder_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.create("ztf", &[]).await.unwrap();
    store.put("ztf", batch(&[("a", &[("i:x", 1, "one"), ("d:y", 1, "two")])])).await.unwrap();
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    store.put("ztf", batch(&[("a", &[("i:z", 1, "three"), ("i:x", 2, "new")])])).await.unwrap();
    let expected = "a{d:y@1=two i:x@2=new i:z@1=three}";
    assert_eq!(read(&store, "ztf", Scan::default()).await.unwrap(), expected);
    assert_eq!(store.tables().await.unwrap(), ["ztf"]);
}

#[tokio::test]
async fn a_folder_that_is_open_elsewhere_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _open = Store::open(folder.path()).unwrap();
    let error = Store::open(folder.path()).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_misspelt_table_is_answered_with_the_nearest_name() {
    let folder = tempfile::tempdir().unwrap();
    let client = served(Arc::new(Store::open(folder.path()).unwrap())).await;
    client.create("objects", &[]).await.unwrap();
    let error = client.put("object", batch(&[("a", &[])])).await.unwrap_err();
    assert_eq!(error.to_string(), "table 'object' is not in the store; did you mean 'objects'?");
    let error = client.create("a/b", &[]).await.unwrap_err();
    assert_eq!(error.to_string(), "table 'a/b': a table's name has 1 to 200 letters, digits, '_', '-' or '.'");
    let error = client.put("objects", batch(&[("", &[])])).await.unwrap_err();
    assert_eq!(error.to_string(), "table 'objects': a row key has 0 bytes; it must have 1 to 32767");
}

/// Is away for the first calls of each kind, and breaks each scan off behind its first batch.
#[derive(Debug)]
struct Flaky {
    store: Store,
    n_away: u32,
    puts: AtomicU32,
    scans: AtomicU32,
}

#[async_trait]
impl Backend for Flaky {
    async fn create(&self, table: &str, families: &[String]) -> Result<(), Error> {
        self.store.create(table, families).await
    }

    async fn put(&self, table: &str, batch: Batch) -> Result<(), Error> {
        // Written, yet not answered: the worst case for whoever repeats it.
        self.store.put(table, batch).await?;
        match self.puts.fetch_add(1, Ordering::SeqCst) < self.n_away {
            true => Err(away()),
            false => Ok(()),
        }
    }

    fn scan(&self, table: &str, scan: Scan) -> BoxStream<'static, Result<Batch, Error>> {
        let rows = self.store.scan(table, scan);
        match self.scans.fetch_add(1, Ordering::SeqCst) < self.n_away {
            true => rows.take(1).chain(futures::stream::iter([Err(away())])).boxed(),
            false => rows,
        }
    }

    async fn tables(&self) -> Result<Vec<String>, Error> {
        self.store.tables().await
    }
}

fn away() -> Error {
    Error::Unavailable { location: "store".into(), reason: "restarts".into() }
}

async fn flaky(folder: &std::path::Path, n_away: u32) -> (Arc<Flaky>, Client) {
    let store = Store::open(folder).unwrap();
    store.create("ztf", &[]).await.unwrap();
    let flaky = Arc::new(Flaky { store, n_away, puts: AtomicU32::new(0), scans: AtomicU32::new(0) });
    (flaky.clone(), served(flaky).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_waits_for_a_store_that_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let (flaky, client) = flaky(folder.path(), 3).await;
    let value = "v".repeat(700_000);
    client.put("ztf", batch(&[("a", &[("i:x", 1, &value)]), ("b", &[]), ("c", &[("i:x", 1, &value)])])).await.unwrap();
    assert_eq!(flaky.puts.load(Ordering::SeqCst), 4);
    client.put("ztf", batch(&[("d", &[("i:x", 1, &value)]), ("e", &[])])).await.unwrap();
    let scan = Scan { columns: Some(vec![]), ..Scan::default() };
    assert_eq!(read(&client, "ztf", scan.clone()).await.unwrap(), "a{} b{} c{} d{} e{}", "no row is lost or repeated");
    assert!(flaky.scans.load(Ordering::SeqCst) > 1, "the scan was broken off");
    flaky.scans.store(0, Ordering::SeqCst);
    assert_eq!(read(&client, "ztf", Scan { limit: Some(4), ..scan }).await.unwrap(), "a{} b{} c{} d{}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_gives_up_in_the_end_and_says_which_store_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let (flaky, client) = flaky(folder.path(), 100).await;
    let error = client.put("ztf", batch(&[("a", &[])])).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    assert_eq!(flaky.puts.load(Ordering::SeqCst), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_finds_a_store_that_came_back_at_its_address() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.create("ztf", &[]).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let first =
        tokio::spawn(Service::new(Arc::new(store.clone())).serve(listener, async { stopped.await.unwrap_or(()) }));
    let client = Client::new(&format!("store://{address}")).unwrap();
    client.put("ztf", batch(&[("a", &[])])).await.unwrap();
    stop.send(()).unwrap();
    first.await.unwrap().unwrap();

    let put = tokio::spawn({
        let client = client.clone();
        async move { client.put("ztf", batch(&[("b", &[])])).await }
    });
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(Service::new(Arc::new(store)).serve(listener, pending()));
    put.await.unwrap().unwrap();
    assert_eq!(read(&client, "ztf", Scan::default()).await.unwrap(), "a{} b{}");
}
