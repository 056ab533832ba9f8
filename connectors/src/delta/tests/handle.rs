//! What an open table keeps in memory, and which tables it does not touch.

use deltalake::kernel::DataType;
use deltalake::operations::create::CreateBuilder;

use super::*;

/// Bytes of all that an open table keeps.
async fn kept(table: &Table) -> usize {
    serde_json::to_vec(table.inner.lock().await.snapshot()).unwrap().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_of_a_table_does_not_grow_with_its_files() {
    let (_dir, url) = folder();
    let batch = alerts(&[("2024-01-01", 1)]);
    let table = Table::ensure(&url, &batch.schema(), &by_night()).await.unwrap();
    let mut sizes = Vec::new();
    for n in 0..39 {
        let adds = attempt(&url, &by_night(), &format!("job-{n}-0-1"), std::slice::from_ref(&batch)).await;
        assert_eq!(table.commit(epoch(n, adds), open_fence).await.unwrap(), Committed::Now(n as u64 + 1));
        sizes.push(kept(&table).await);
    }
    // Right after the checkpoints of versions 9 and 39.
    assert!(sizes[38] <= sizes[8] + 10, "{sizes:?}");
    assert!(sizes.iter().max() < Some(&(sizes[8] + 9 * 400)), "{sizes:?}");
    assert_eq!(table.version_of(APP).await.unwrap(), Some(38));
    assert_eq!(number(&url, "SELECT count(*) FROM t").await, 39);
}

#[tokio::test]
async fn files_that_a_table_holds_are_found_before_and_after_a_checkpoint() {
    let (_dir, url) = folder();
    let batches: Vec<_> = (0..12).map(|n| alerts(&[("2024-01-01", n)])).collect();
    let table = table_of(&url, &by_night(), &batches).await;
    let names = [0, 8, 9, 11, 12].map(|n| format!("part-job-{n}-0-1-00000.parquet"));
    let held = table.holds(&names.clone().into()).await.unwrap();
    assert_eq!(held, names[..4].iter().cloned().collect());
}

#[tokio::test]
async fn a_table_whose_writers_must_know_more_is_refused_when_opened_and_at_a_commit() {
    let (_dir, url) = folder();
    let batch = alerts(&[("2024-01-01", 1)]);
    let table = Table::ensure(&url, &batch.schema(), &[]).await.unwrap();
    let adds = attempt(&url, &[], "job-0-0-1", std::slice::from_ref(&batch)).await;
    // Another writer upgrades the table meanwhile.
    let upgrade = serde_json::json!({"protocol": {
        "minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["appendOnly", "rowTracking", "domainMetadata"],
    }});
    let log = url.to_file_path().unwrap().join("_delta_log");
    std::fs::write(log.join("00000000000000000001.json"), upgrade.to_string()).unwrap();
    for error in [
        table.commit(epoch(0, adds), open_fence).await.unwrap_err(),
        Table::ensure(&url, &batch.schema(), &[]).await.unwrap_err(),
    ] {
        assert!(error.to_string().contains("its writers must know rowTracking, domainMetadata"), "{error}");
    }
}

#[tokio::test]
async fn entries_older_than_the_owner_keeps_them_go_with_a_checkpoint_and_commits_go_on() {
    let (_dir, url) = folder();
    std::fs::create_dir_all(url.to_file_path().unwrap()).unwrap();
    CreateBuilder::new()
        .with_location(url.as_str())
        .with_column("candid", DataType::LONG, true, None)
        .with_configuration_property(deltalake::TableProperty::CheckpointInterval, Some("5"))
        .with_configuration_property(deltalake::TableProperty::LogRetentionDuration, Some("interval 0 seconds"))
        .await
        .unwrap();
    let batch = alerts(&[("2024-01-01", 1)]).project(&[1]).unwrap();
    let table = table_of(&url, &[], &vec![batch; 12]).await;
    let log = url.to_file_path().unwrap().join("_delta_log");
    assert!(!log.join("00000000000000000000.json").exists() && log.join("00000000000000000012.json").exists());
    assert_eq!(table.version_of(APP).await.unwrap(), Some(11));
    assert_eq!(number(&url, "SELECT count(*) FROM t").await, 12);
}
