mod damaged;

use std::fs;
use std::io::Write;
use std::path::Path as FilePath;
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;
use futures::TryStreamExt;
use futures::future::join_all;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use redpoll_core::source::{OffsetRange, Offsets, Record, Start, Taken, TopicPartition};

use super::*;
use crate::conformance;

async fn local(path: &FilePath) -> Result<Arc<dyn Source>, Error> {
    let location = path.to_str().unwrap();
    open(location, Arc::new(LocalFileSystem::new()), Path::from_absolute_path(path).unwrap()).await
}

/// Writes a file whose time of writing is `seconds` after an hour ago.
fn write(folder: &FilePath, name: &str, seconds: u64, text: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut file = fs::File::create(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    let whole = hour_ago.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(whole + seconds)).unwrap();
}

/// An archive of members named by number, of sizes that differ, with other entries between them.
pub(super) fn archive(n: usize) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |name: &str, text: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, text).unwrap();
    };
    add("night/README", b"not an alert");
    for i in 0..n {
        // The order of members is not that of names.
        add(&format!("night/{:04}.avro", (i * 7) % n), format!("alert {i} ").repeat(i % 13 * 40 + 1).as_bytes());
    }
    add("night/._0001.avro", b"hidden");
    archive.into_inner().unwrap()
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    // Two gzip members, as `cat a.gz b.gz` and parallel compressors make them.
    let mut zipped = Vec::new();
    for part in [&bytes[..bytes.len() / 2], &bytes[bytes.len() / 2..]] {
        let mut encoder = GzEncoder::new(&mut zipped, Compression::fast());
        encoder.write_all(part).unwrap();
        encoder.finish().unwrap();
    }
    zipped
}

async fn all(source: &dyn Source) -> Vec<OffsetRange> {
    source.available(&Offsets::new(), Start::Earliest, u64::MAX).await.unwrap()
}

async fn texts(source: &dyn Source, range: OffsetRange) -> Vec<String> {
    let records: Vec<Record> = source.read(range).try_collect().await.unwrap();
    records.iter().map(|record| String::from_utf8(record.value.to_vec()).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_a_conforming_source() {
    let folder = tempfile::tempdir().unwrap();
    for i in 0..30 {
        write(folder.path(), &format!("{}/{i}.avro", i % 3), i / 4, &format!("alert {i}"));
    }
    let records = conformance::check(local(folder.path()).await.unwrap().as_ref()).await;
    assert_eq!(records.len(), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn tarballs_are_conforming_sources_on_disk_and_in_a_bucket() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = Arc::new(InMemory::new());
    for (name, bytes) in [("n.tar", archive(40)), ("n.tar.gz", gzip(&archive(40))), ("n.tgz", gzip(&archive(40)))] {
        fs::write(folder.path().join(name), &bytes).unwrap();
        bucket.put(&Path::from(name), bytes.into()).await.unwrap();
        let remote = open(&format!("s3://b/{name}"), bucket.clone(), Path::from(name)).await.unwrap();
        for source in [local(&folder.path().join(name)).await.unwrap(), remote] {
            let records = conformance::check(source.as_ref()).await;
            assert_eq!(records.len(), 40, "{name}");
            assert!(records.iter().enumerate().all(|(i, r)| r.value.starts_with(format!("alert {i} ").as_bytes())));
            assert_eq!(&*records[1].topic, "night/0007.avro");
        }
    }
}

#[tokio::test]
async fn files_are_taken_in_order_of_time_then_name_and_hidden_ones_never() {
    let folder = tempfile::tempdir().unwrap();
    let files = [("b.avro", 1), ("z/a.avro", 1), ("c.avro", 0), (".x.avro", 0), ("_tmp/x.avro", 0), ("x.txt", 0)];
    for (name, seconds) in files {
        write(folder.path(), name, seconds, name);
    }
    let source = local(folder.path()).await.unwrap();
    let range = all(source.as_ref()).await.remove(0);
    assert_eq!(texts(source.as_ref(), range).await, ["c.avro", "b.avro", "z/a.avro"]);
}

/// Takes one epoch of at most `max_bytes` as a job does: from the fold of its log.
async fn epoch(source: &dyn Source, log: &mut Vec<OffsetRange>, max_bytes: u64) -> Vec<String> {
    let (mut from, mut taken) = (Offsets::new(), Taken::default());
    for range in log.iter() {
        from.insert(TopicPartition { topic: range.topic.clone(), partition: range.partition }, range.end);
    }
    taken.add(log);
    let ranges = source.available_except(&from, Start::Earliest, max_bytes, &taken).await.unwrap();
    let read = join_all(ranges.iter().map(|range| texts(source, range.clone()))).await.concat();
    log.extend(ranges);
    read
}

#[tokio::test]
async fn files_that_appear_late_with_an_early_time_or_name_are_each_taken_once() {
    let folder = tempfile::tempdir().unwrap();
    let (source, mut log) = (local(folder.path()).await.unwrap(), Vec::new());
    assert_eq!(epoch(source.as_ref(), &mut log, 100).await, [""; 0], "an empty folder is no error");
    write(folder.path(), "m.avro", 5, "m5");
    write(folder.path(), "n.avro", 5, "n5");
    write(folder.path(), "o.avro", 6, "o6");
    assert_eq!(epoch(source.as_ref(), &mut log, 4).await, ["m5", "n5"]);
    write(folder.path(), ".a", 1, "a1");
    fs::rename(folder.path().join(".a"), folder.path().join("a.avro")).unwrap();
    write(folder.path(), "b.avro", 5, "b5");
    let restarted = local(folder.path()).await.unwrap();
    assert_eq!(epoch(restarted.as_ref(), &mut log, 2).await, ["a1"]);
    assert_eq!(epoch(restarted.as_ref(), &mut log, 100).await, ["b5", "o6"]);
    assert_eq!(epoch(restarted.as_ref(), &mut log, 100).await, [""; 0]);
    let ends: Vec<_> = log.iter().map(|range| (range.start, range.end)).collect();
    assert_eq!(ends, [(0, 2), (2, 3), (3, 5)], "offsets have no gaps");
    assert_eq!(texts(source.as_ref(), log[0].clone()).await, ["m5", "n5"], "a range reads the same for ever");
}

#[tokio::test]
async fn offsets_and_files_of_different_logs_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a.avro", 0, "a");
    let source = local(folder.path()).await.unwrap();
    let from = Offsets::from([(all(source.as_ref()).await[0].topic_partition(), 1)]);
    let refused = source.available_except(&from, Start::Earliest, 10, &Taken::default()).await.unwrap_err();
    assert!(refused.to_string().contains("offset 1 is next, but 0 files are known as taken"), "{refused}");
}

#[tokio::test]
async fn a_file_that_changes_after_it_was_planned_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a.avro", 0, "aaaa");
    let source = local(folder.path()).await.unwrap();
    let range = all(source.as_ref()).await.remove(0);
    write(folder.path(), "a.avro", 9, "bbbb");
    let error = source.read(range).try_collect::<Vec<_>>().await.unwrap_err();
    assert!(error.to_string().contains("a.avro: changed after its epoch was planned"), "{error}");

    let path = folder.path().join("n.tar.gz");
    fs::write(&path, gzip(&archive(5))).unwrap();
    let source = local(&path).await.unwrap();
    let range = all(source.as_ref()).await.remove(0);
    fs::remove_file(&path).unwrap();
    fs::write(&path, gzip(&archive(6))).unwrap();
    let error = source.read(range).try_collect::<Vec<_>>().await.unwrap_err();
    assert!(error.to_string().contains("changed after its epoch was planned"), "{error}");
}

#[tokio::test]
async fn the_start_may_be_a_time_but_not_the_end_of_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a.avro", 0, "old");
    write(folder.path(), "b.avro", 60, "new");
    let source = local(folder.path()).await.unwrap();
    let range = all(source.as_ref()).await.remove(0);
    let written: Vec<Record> = source.read(range).try_collect().await.unwrap();
    let since = Start::Timestamp(written[1].timestamp.unwrap());
    let range = source.available(&Offsets::new(), since, 100).await.unwrap().remove(0);
    assert_eq!(texts(source.as_ref(), range).await, ["new"]);
    let error = source.available(&Offsets::new(), Start::Latest, 100).await.unwrap_err();
    assert!(matches!(error, Error::Option { .. }), "{error}");
}

#[tokio::test]
async fn one_file_is_one_record() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a.avro", 0, "alert");
    let source = local(&folder.path().join("a.avro")).await.unwrap();
    let range = all(source.as_ref()).await.remove(0);
    let from = Offsets::from([(range.topic_partition(), range.end)]);
    assert_eq!(source.available(&from, Start::Earliest, 10).await.unwrap(), []);
    assert_eq!(texts(source.as_ref(), range).await, ["alert"]);
}

#[tokio::test]
async fn a_path_that_is_not_there_is_answered_with_the_nearest_names() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "night1/a.avro", 0, "a");
    write(folder.path(), "night1.tar.gz", 0, "a");
    let missing = async |name: &str| {
        let error = local(&folder.path().join(name)).await.unwrap_err().to_string();
        error.rsplit_once('/').unwrap().1.to_string()
    };
    assert_eq!(missing("nigth1").await, "nigth1: there is no such folder; did you mean 'night1'?");
    assert_eq!(missing("nigth1.tar.gz").await, "nigth1.tar.gz: there is no such file; did you mean 'night1.tar.gz'?");
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert_eq!(all(local(&empty).await.unwrap().as_ref()).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_tarball_is_cut_into_four_splits_at_most() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("n.tar.gz");
    fs::write(&path, gzip(&archive(100))).unwrap();
    let source = local(&path).await.unwrap();
    let ranges = all(source.as_ref()).await;
    let splits = source.split(&ranges, 1);
    assert_eq!(splits.len(), 4);
    // All at once, as tasks do.
    let read = join_all(splits.concat().into_iter().map(|range| texts(source.as_ref(), range))).await.concat();
    assert_eq!(read.len(), 100);
    fs::write(folder.path().join("n.tar"), archive(100)).unwrap();
    let source = local(&folder.path().join("n.tar")).await.unwrap();
    assert_eq!(source.split(&all(source.as_ref()).await, 1).len(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_tarball_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("n.tar.gz");
    let bytes = gzip(&archive(100));
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let error = local(&path).await.unwrap().available(&Offsets::new(), Start::Earliest, u64::MAX).await.unwrap_err();
    assert!(matches!(&error, Error::Read { location, .. } if location.ends_with("n.tar.gz")), "{error}");
}
