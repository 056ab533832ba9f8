//! Tarballs that are damaged, or that lie: they give an error or records, and cost no more memory than they have bytes.

use object_store::ObjectStoreExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

/// What a tarball gives: its records, or the error of the listing or of the reading.
async fn read(name: &str, bytes: Vec<u8>) -> Result<Vec<Record>, Error> {
    let store = Arc::new(InMemory::new());
    store.put(&Path::from(name), bytes.into()).await.unwrap();
    let source = open(&format!("s3://b/{name}"), store, Path::from(name)).await?;
    let mut records = Vec::new();
    for range in source.available(&Offsets::new(), Start::Earliest, u64::MAX).await? {
        for range in source.split(&[range], 10_000).concat() {
            records.extend(source.read(range).try_collect::<Vec<_>>().await?);
        }
    }
    Ok(records)
}

fn damage(rng: &mut StdRng, bytes: &mut Vec<u8>) {
    let at = rng.random_range(0..bytes.len());
    match rng.random_range(0..4) {
        0 => bytes[at] ^= 1 << rng.random_range(0..8),
        1 => bytes.truncate(at),
        2 => drop(bytes.drain(at..(at + 700).min(bytes.len()))),
        _ => (at..(at + 12).min(bytes.len())).for_each(|i| bytes[i] = rng.random()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_damaged_tarballs_give_an_error_or_records() {
    let plain = archive(12);
    let whole = read("n.tar", plain.clone()).await.unwrap().len();
    let (mut good, mut failed) = (0, 0);
    for n in 0..1000 {
        let mut rng = StdRng::seed_from_u64(n);
        let mut bytes = if n % 2 == 0 { plain.clone() } else { gzip(&plain) };
        damage(&mut rng, &mut bytes);
        if bytes.is_empty() {
            continue;
        }
        match read(if n % 2 == 0 { "n.tar" } else { "n.tar.gz" }, bytes).await {
            Ok(records) => {
                assert!(records.len() <= whole, "archive {n}");
                good += 1;
            }
            Err(error) => {
                assert!(error.to_string().contains("n.tar"), "archive {n}: {error}");
                failed += 1;
            }
        }
    }
    assert!(good > 100 && failed > 100, "{good} good, {failed} failed");
}

/// An archive of one member that says it has so many bytes.
fn claims(size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_path("night/0001.avro").unwrap();
    header.set_mode(0o644);
    header.set_size(size);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend([b'a'; 512]);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_claims_an_exabyte_is_an_error_and_costs_no_memory() {
    for size in [1 << 30, 1 << 60, u64::MAX] {
        for (name, bytes) in [("n.tar", claims(size)), ("n.tar.gz", gzip(&claims(size)))] {
            let error = read(name, bytes).await.unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
    // Two that overflow together.
    let twice = [claims(u64::MAX - 1), claims(u64::MAX - 1)].concat();
    read("n.tar", twice.clone()).await.unwrap_err();
    read("n.tar.gz", gzip(&twice)).await.unwrap_err();
}
