//! Attempts, commits, and what the log says of them.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BinaryViewArray, BooleanArray, DictionaryArray, Float64Array, RecordBatch, StringArray,
    StringViewArray, TimestampMicrosecondArray, TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::Int32Type;
use serde_json::{Value, json};
use tokio::sync::Barrier;
use uuid::Uuid;

use super::*;
use crate::delta::Compression;

#[tokio::test]
async fn files_are_invisible_until_committed_and_an_epoch_is_committed_once() {
    let (_dir, url) = folder();
    round_trip(&url).await;
}

#[tokio::test]
async fn the_round_trip_is_the_same_on_s3() {
    if std::env::var_os("AWS_ENDPOINT_URL").is_none() {
        eprintln!("skipped: AWS_ENDPOINT_URL is not set; run tests/services/s3.sh start");
        return;
    }
    let bucket = std::env::var("REDPOLL_TEST_BUCKET").unwrap_or_else(|_| "redpoll-test".to_owned());
    let folder = format!("s3://{bucket}/delta-{}", Uuid::new_v4());
    round_trip(&location(&format!("{folder}/small")).unwrap()).await;
    large_file(&location(&format!("{folder}/large")).unwrap()).await;
}

#[tokio::test]
async fn a_file_of_several_upload_parts_is_read_back_whole() {
    let (_dir, url) = folder();
    large_file(&url).await;
}

/// 30 MB that do not compress, so the file goes up in parts.
async fn large_file(url: &Url) {
    let mut word = 1_u64;
    let mut cutout = || {
        let next = || {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (word >> 56) as u8
        };
        std::iter::repeat_with(next).take(30_000).collect::<Vec<u8>>()
    };
    let cutouts: Vec<_> = std::iter::repeat_with(&mut cutout).take(200).collect();
    let batch =
        RecordBatch::try_from_iter([("cutout", Arc::new(BinaryViewArray::from_iter_values(&cutouts)) as ArrayRef)]);
    let batch = batch.unwrap();
    let table = Table::ensure(url, &batch.schema(), &[]).await.unwrap();
    let options = WriterOptions { row_group_bytes: 4 << 20, ..WriterOptions::default() };
    let mut writer = Writer::new(url, &batch.schema(), &[], "job-0-0-1", options).unwrap();
    for _ in 0..5 {
        writer.write(&batch).await.unwrap();
    }
    let adds = writer.close().await.unwrap();
    assert!(adds.len() == 1 && adds[0].size > 30_000_000, "{adds:?}");
    table.commit(epoch(0, adds), open_fence).await.unwrap();
    let batches = session(url).await.sql("SELECT cutout FROM t").await.unwrap().collect().await.unwrap();
    let mut read: Vec<Vec<u8>> = batches
        .iter()
        .flat_map(|batch| batch.column(0).as_binary::<i32>().iter())
        .map(|row| row.unwrap().to_vec())
        .collect();
    let mut written: Vec<_> = std::iter::repeat_n(cutouts, 5).flatten().collect();
    read.sort_unstable();
    written.sort_unstable();
    assert!(read == written, "{} of {} rows, or other bytes", read.len(), written.len());
}

async fn round_trip(url: &Url) {
    let first = alerts(&[("2024-01-01", 1), ("2024-01-02", 2), ("2024-01-01", 3)]);
    let second = alerts(&[("2024-01-02", 4)]);
    let table = Table::ensure(url, &first.schema(), &by_night()).await.unwrap();
    let mut adds = attempt(url, &by_night(), "job-7-0-1", &[first]).await;
    adds.extend(attempt(url, &by_night(), "job-7-1-1", &[second]).await);
    assert_eq!(adds.len(), 3);
    assert_eq!(number(url, "SELECT count(*) FROM t").await, 0);

    // Receipts travel as JSON.
    let adds: Vec<AddFile> = serde_json::from_str(&serde_json::to_string(&adds).unwrap()).unwrap();
    assert_eq!(table.version_of(APP).await.unwrap(), None);
    assert_eq!(table.commit(epoch(7, adds.clone()), open_fence).await.unwrap(), Committed::Now(1));
    assert_eq!(table.commit(epoch(7, adds.clone()), open_fence).await.unwrap(), Committed::Already(1));
    let late = Table::open(url).await.unwrap();
    assert_eq!(late.commit(epoch(6, adds), open_fence).await.unwrap(), Committed::Already(1));
    assert_eq!(late.version_of(APP).await.unwrap(), Some(7));
    let expected = "\
+------------+--------+
| night      | candid |
+------------+--------+
| 2024-01-01 | 1      |
| 2024-01-02 | 2      |
| 2024-01-01 | 3      |
| 2024-01-02 | 4      |
+------------+--------+";
    assert_eq!(rows(url, "SELECT * FROM t ORDER BY candid").await, expected);
}

#[tokio::test]
async fn of_two_committers_of_one_epoch_one_wins() {
    let (_dir, url) = folder();
    let batch = alerts(&[("2024-01-01", 1)]);
    let tables = [
        Table::ensure(&url, &batch.schema(), &by_night()).await.unwrap(),
        Table::ensure(&url, &batch.schema(), &by_night()).await.unwrap(),
    ];
    let adds = [
        attempt(&url, &by_night(), "job-0-0-1", std::slice::from_ref(&batch)).await,
        attempt(&url, &by_night(), "job-0-0-2", std::slice::from_ref(&batch)).await,
    ];
    // Neither writes before both have found the epoch missing.
    let both = Barrier::new(2);
    let fence = || async {
        both.wait().await;
        Ok::<_, Error>(())
    };
    let [a, b] = adds;
    let (a, b) = tokio::join!(tables[0].commit(epoch(0, a), fence), tables[1].commit(epoch(0, b), fence));
    let mut committed = [a.unwrap(), b.unwrap()];
    committed.sort_by_key(|committed| matches!(committed, Committed::Already(_)));
    assert_eq!(committed, [Committed::Now(1), Committed::Already(1)]);
    assert_eq!(number(&url, "SELECT count(*) FROM t").await, 1);
}

#[tokio::test]
async fn a_committer_that_freezes_between_its_check_and_its_put_does_no_harm() {
    let (_dir, url) = folder();
    frozen_committer(&url).await;
}

#[tokio::test]
async fn a_committer_that_freezes_between_its_check_and_its_put_does_no_harm_on_s3() {
    if std::env::var_os("AWS_ENDPOINT_URL").is_none() {
        eprintln!("skipped: AWS_ENDPOINT_URL is not set; run tests/services/s3.sh start");
        return;
    }
    let bucket = std::env::var("REDPOLL_TEST_BUCKET").unwrap_or_else(|_| "redpoll-test".to_owned());
    frozen_committer(&location(&format!("s3://{bucket}/delta-{}", Uuid::new_v4())).unwrap()).await;
}

/// The fence lets the first committer pass, and all that another scheduler does happens before its put: it takes over,
/// commits the same epochs, and in the second round also those that come next.
async fn frozen_committer(url: &Url) {
    let batch = alerts(&[("2024-01-01", 1)]);
    let frozen = Table::ensure(url, &batch.schema(), &by_night()).await.unwrap();
    let woken = Table::ensure(url, &batch.schema(), &by_night()).await.unwrap();
    for (round, further) in [(0, 0), (1, 5)] {
        let n = round * 10;
        let adds = attempt(url, &by_night(), &format!("job-{n}-0-1"), std::slice::from_ref(&batch)).await;
        let (woken, adds_again, batch) = (&woken, &adds, &batch);
        let fence = || async move {
            woken.commit(epoch(n, adds_again.clone()), open_fence).await?;
            for later in n + 1..=n + further {
                let adds = attempt(url, &by_night(), &format!("job-{later}-0-1"), std::slice::from_ref(batch)).await;
                woken.commit(epoch(later, adds), open_fence).await?;
            }
            Ok::<_, Error>(())
        };
        let late = frozen.commit(epoch(n, adds.clone()), fence).await.unwrap();
        assert!(matches!(late, Committed::Already(_)), "{late:?}");
    }
    assert_eq!(woken.version_of(APP).await.unwrap(), Some(15));
    // Epochs 0, 10, and 11 to 15, of one row each.
    assert_eq!(number(url, "SELECT count(*) FROM t").await, 7);
}

#[tokio::test]
async fn two_jobs_that_race_for_one_table_both_get_in() {
    let (_dir, url) = folder();
    let batch = alerts(&[("2024-01-01", 1)]);
    let tables = [
        Table::ensure(&url, &batch.schema(), &by_night()).await.unwrap(),
        Table::ensure(&url, &batch.schema(), &by_night()).await.unwrap(),
    ];
    let a = attempt(&url, &by_night(), "a-0-0-1", std::slice::from_ref(&batch)).await;
    let b = Commit {
        app_id: "redpoll.other.ztf.raw".to_owned(),
        ..epoch(0, attempt(&url, &by_night(), "b-0-0-1", &[batch]).await)
    };
    let (a, b) = tokio::join!(tables[0].commit(epoch(0, a), open_fence), tables[1].commit(b, open_fence));
    let mut versions = [a.unwrap().version(), b.unwrap().version()];
    versions.sort_unstable();
    assert_eq!(versions, [1, 2]);
    assert_eq!(number(&url, "SELECT count(*) FROM t").await, 2);
}

#[tokio::test]
async fn a_refusing_fence_commits_nothing() {
    let (_dir, url) = folder();
    let batch = alerts(&[("2024-01-01", 1)]);
    let table = Table::ensure(&url, &batch.schema(), &by_night()).await.unwrap();
    let adds = attempt(&url, &by_night(), "job-0-0-1", &[batch]).await;
    let refused = table.commit(epoch(0, adds), || async { Err::<(), _>("term 4 reigns") }).await;
    assert!(matches!(refused, Err(Error::Fenced { version: 0, .. })));
    assert_eq!(table.version().await.unwrap(), 0);
    assert_eq!(table.version_of(APP).await.unwrap(), None);
}

#[tokio::test]
async fn an_epoch_without_files_is_recorded_only_when_told() {
    let (_dir, url) = folder();
    let table = Table::ensure(&url, &alerts(&[]).schema(), &by_night()).await.unwrap();
    assert_eq!(table.commit(epoch(3, vec![]), open_fence).await.unwrap(), Committed::Empty(0));
    assert_eq!(table.version_of(APP).await.unwrap(), None);
    let told = Commit { record_empty: true, ..epoch(3, vec![]) };
    assert_eq!(table.commit(told, open_fence).await.unwrap(), Committed::Now(1));
    assert_eq!(table.version_of(APP).await.unwrap(), Some(3));
}

#[tokio::test]
async fn a_created_table_has_a_checkpoint_after_ten_commits() {
    let (_dir, url) = folder();
    let batches: Vec<_> = (0..12).map(|n| alerts(&[("2024-01-01", n)])).collect();
    table_of(&url, &by_night(), &batches).await;
    let log = url.to_file_path().unwrap().join("_delta_log");
    let hint: Value = serde_json::from_slice(&std::fs::read(log.join("_last_checkpoint")).unwrap()).unwrap();
    assert_eq!(hint["version"], 9);
    assert_eq!(number(&url, "SELECT sum(candid) FROM t").await, 66);
}

#[tokio::test]
async fn files_are_named_by_attempt_and_closed_at_their_target_size() {
    let (_dir, url) = folder();
    let batch = alerts(&(0..5000).map(|n| ("2024 1%", n * 7919)).collect::<Vec<_>>());
    let table = Table::ensure(&url, &batch.schema(), &by_night()).await.unwrap();
    let options =
        WriterOptions { target_file_bytes: 30_000, compression: Compression::Zstd(1), ..WriterOptions::default() };
    let mut writer = Writer::new(&url, &batch.schema(), &by_night(), "job-1-2-3", options).unwrap();
    for _ in 0..4 {
        writer.write(&batch).await.unwrap();
    }
    let adds = writer.close().await.unwrap();
    assert!(adds.len() > 1, "{} files", adds.len());
    assert_eq!(adds[1].path, "night=2024%201%25/part-job-1-2-3-00001.parquet");
    assert_eq!(adds[1].partition_values["night"].as_deref(), Some("2024 1%"));
    table.commit(epoch(0, adds), open_fence).await.unwrap();
    assert_eq!(number(&url, "SELECT count(candid) FROM t WHERE night = '2024 1%'").await, 20_000);
}

#[tokio::test]
async fn an_aborted_writer_leaves_no_file_of_an_open_partition() {
    let (_dir, url) = folder();
    let batch = alerts(&[("2024-01-01", 1)]);
    Table::ensure(&url, &batch.schema(), &by_night()).await.unwrap();
    let mut writer = Writer::new(&url, &batch.schema(), &by_night(), "job-0-0-1", WriterOptions::default()).unwrap();
    writer.write(&batch).await.unwrap();
    writer.abort().await;
    assert!(!url.to_file_path().unwrap().join("night=2024-01-01").exists());
}

#[tokio::test]
async fn memory_stays_bounded_over_many_partitions() {
    let (_dir, url) = folder();
    let nights: Vec<_> = (0..20).map(|night| format!("night-{night}")).collect();
    let batch = alerts(&(0..20_000).map(|n| (nights[n % 20].as_str(), n as i64 * 7919)).collect::<Vec<_>>());
    Table::ensure(&url, &batch.schema(), &by_night()).await.unwrap();
    let options = WriterOptions { max_memory_bytes: 100_000, ..WriterOptions::default() };
    let mut writer = Writer::new(&url, &batch.schema(), &by_night(), "job-0-0-1", options).unwrap();
    for _ in 0..5 {
        writer.write(&batch).await.unwrap();
        assert!(writer.memory_bytes() <= 100_000, "{} bytes", writer.memory_bytes());
    }
    assert_eq!(writer.close().await.unwrap().len(), 20);
}

fn micros(values: &[i64]) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(values.to_vec()).with_timezone("UTC"))
}

#[tokio::test]
async fn statistics_bound_what_can_be_bounded_and_no_more() {
    let (_dir, url) = folder();
    let long = "δ".repeat(40);
    let columns: [(&str, ArrayRef); 7] = [
        ("candid", Arc::new(Int64Array::from(vec![Some(3), None, Some(i64::MAX)]))),
        ("name", Arc::new(StringArray::from(vec!["ZTF18", &long, "ZTF17"]))),
        ("magpsf", Arc::new(Float64Array::from(vec![17.25, 18.5, -0.5]))),
        ("rb", Arc::new(Float64Array::from(vec![0.5, f64::NAN, 0.1]))),
        ("limit", Arc::new(Float64Array::from(vec![f64::NEG_INFINITY, 2.0, 0.1]))),
        ("time", micros(&[1_700_000_000_000_001, 1_700_000_000_000_001, 1_700_000_000_000_001])),
        ("moving", Arc::new(BooleanArray::from(vec![true, false, true]))),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap();
    let adds = attempt(&url, &[], "job-0-0-1", &[batch]).await;
    let stats: Value = serde_json::from_str(adds[0].stats.as_deref().unwrap()).unwrap();
    let least = json!({"candid": 3, "name": "ZTF17", "magpsf": -0.5, "time": "2023-11-14T22:13:20.000Z"});
    assert_eq!(stats["minValues"], least);
    assert_eq!(stats["maxValues"]["candid"], i64::MAX);
    assert_eq!(stats["maxValues"]["magpsf"], 18.5);
    assert_eq!(stats["maxValues"]["time"], "2023-11-14T22:13:20.001Z");
    let greatest = stats["maxValues"]["name"].as_str().unwrap();
    assert!(greatest > long.as_str() && greatest.len() <= 33, "{greatest}");
    assert_eq!(stats["nullCount"]["candid"], 1);
    assert_eq!(stats["numRecords"], 3);
}

#[tokio::test]
async fn types_that_delta_lacks_are_mapped_and_read_back() {
    let (_dir, url) = folder();
    let columns: [(&str, ArrayRef); 5] = [
        ("objectId", Arc::new(StringViewArray::from(vec!["ZTF18abc", "ZTF19xyz"]))),
        ("cutout", Arc::new(BinaryViewArray::from_iter_values([b"\x1f\x8b", b"\x00\x01"]))),
        ("diaSourceId", Arc::new(UInt64Array::from(vec![1 << 62, 7]))),
        ("filter", Arc::new(DictionaryArray::<Int32Type>::from_iter(["g", "r"]))),
        ("time", Arc::new(TimestampNanosecondArray::from(vec![1_700_000_000_000_000_999, 0]))),
    ];
    table_of(&url, &[], &[RecordBatch::try_from_iter(columns).unwrap()]).await;
    let expected = "\
+----------+--------+---------------------+--------+----------------------+
| objectId | cutout | diaSourceId         | filter | time                 |
+----------+--------+---------------------+--------+----------------------+
| ZTF18abc | 1f8b   | 4611686018427387904 | g      | 2023-11-14T22:13:20Z |
| ZTF19xyz | 0001   | 7                   | r      | 1970-01-01T00:00:00Z |
+----------+--------+---------------------+--------+----------------------+";
    assert_eq!(rows(&url, "SELECT * FROM t ORDER BY \"objectId\"").await, expected);
}

#[tokio::test]
async fn an_unsigned_value_that_does_not_fit_is_an_error() {
    let (_dir, url) = folder();
    let column: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
    let batch = RecordBatch::try_from_iter([("diaSourceId", column)]).unwrap();
    let mut writer = Writer::new(&url, &batch.schema(), &[], "job-0-0-1", WriterOptions::default()).unwrap();
    let error = writer.write(&batch).await.unwrap_err();
    assert_eq!(error.to_string(), "column 'diaSourceId' cannot be written as Int64");
}

#[tokio::test]
async fn a_file_without_its_partition_value_is_not_committed() {
    let (_dir, url) = folder();
    let batch = alerts(&[("2024-01-01", 1)]);
    let table = Table::ensure(&url, &batch.schema(), &by_night()).await.unwrap();
    let adds = attempt(&url, &[], "job-0-0-1", &[batch]).await;
    assert!(matches!(table.commit(epoch(0, adds), open_fence).await, Err(Error::Partitioning { .. })));
}
