//! Tarballs, packed and not: listed, then read.
#![no_main]

use std::sync::{Arc, LazyLock};

use futures::TryStreamExt;
use libfuzzer_sys::fuzz_target;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use redpoll_connectors::folder;
use redpoll_core::source::{Error, Offsets, Start};
use tokio::runtime::{Builder, Runtime};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Builder::new_current_thread().build().expect("a runtime can be made"));

fuzz_target!(|data: &[u8]| {
    for name in ["night.tar", "night.tar.gz"] {
        let _ = RUNTIME.block_on(read(name, data));
    }
});

async fn read(name: &str, data: &[u8]) -> Result<(), Error> {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    store.put(&Path::from(name), data.to_vec().into()).await.expect("memory takes it");
    let source = folder::open(&format!("s3://b/{name}"), store, Path::from(name)).await?;
    for range in source.available(&Offsets::new(), Start::Earliest, u64::MAX).await? {
        for range in source.split(&[range], 1000).concat() {
            source.read(range).try_collect::<Vec<_>>().await?;
        }
    }
    Ok(())
}
