//! Scans: pinned versions, pruning, plans that travel.

use arrow::array::Float64Array;
use datafusion::physical_plan::displayable;
use datafusion_proto::bytes::{physical_plan_from_bytes, physical_plan_to_bytes};
use deltalake::TableProperty;
use deltalake::kernel::{DataType, DeletionVectorDescriptor, StorageType};
use deltalake::operations::create::CreateBuilder;

use super::*;
use crate::delta::Descriptor;

/// The physical plan of a query over the newest version.
async fn plan(url: &Url, sql: &str) -> String {
    let plan = session(url).await.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
    displayable(plan.as_ref()).indent(true).to_string()
}

fn n_files(plan: &str) -> usize {
    plan.matches(".parquet").count()
}

async fn three_nights() -> (TempDir, Url) {
    let (dir, url) = folder();
    let nights = ["2024-01-01", "2024-01-02", "2024-01-03"];
    let batches: Vec<_> = nights
        .iter()
        .enumerate()
        .map(|(i, night)| alerts(&[(night, i as i64 * 10), (night, i as i64 * 10 + 5)]))
        .collect();
    table_of(&url, &by_night(), &batches).await;
    (dir, url)
}

#[tokio::test]
async fn a_partition_filter_chooses_files_and_is_done() {
    let (_dir, url) = three_nights().await;
    for (filter, n) in [
        ("night = '2024-01-02'", 1),
        ("night LIKE '%-03'", 1),
        ("night <> '2024-01-02'", 2),
        ("night IS NULL", 0),
        ("night IN ('2024-01-01', '2024-01-03')", 2),
    ] {
        let plan = plan(&url, &format!("SELECT candid FROM t WHERE {filter}")).await;
        assert_eq!(n_files(&plan), n, "{filter}:\n{plan}");
        assert!(!plan.contains("FilterExec"), "{filter}:\n{plan}");
    }
}

#[tokio::test]
async fn statistics_rule_out_files_and_the_filter_stays() {
    let (_dir, url) = three_nights().await;
    let plan = plan(&url, "SELECT night FROM t WHERE candid > 14").await;
    assert_eq!(n_files(&plan), 2, "{plan}");
    assert!(plan.contains("FilterExec") && plan.contains("predicate=candid"), "{plan}");
    assert_eq!(number(&url, "SELECT count(*) FROM t WHERE candid > 14").await, 3);
}

#[tokio::test]
async fn a_count_is_answered_from_the_log() {
    let (_dir, url) = three_nights().await;
    let plan = plan(&url, "SELECT count(*) FROM t WHERE night >= '2024-01-02'").await;
    assert_eq!(n_files(&plan), 0, "{plan}");
    assert_eq!(number(&url, "SELECT count(*) FROM t WHERE night >= '2024-01-02'").await, 4);
    for (of, n) in [("LIMIT 3", 3), ("WHERE night >= '2024-01-02' LIMIT 3", 3), ("WHERE candid > 5 LIMIT 3", 3)] {
        assert_eq!(number(&url, &format!("SELECT count(*) FROM (SELECT * FROM t {of})")).await, n, "{of}");
    }
}

#[tokio::test]
async fn a_nan_is_found_where_the_query_says_it_is() {
    let (_dir, url) = folder();
    let column: ArrayRef = Arc::new(Float64Array::from(vec![1.0, f64::NAN]));
    table_of(&url, &[], &[RecordBatch::try_from_iter([("rb", column)]).unwrap()]).await;
    let plan = plan(&url, "SELECT rb FROM t WHERE rb > 5.0").await;
    assert_eq!(n_files(&plan), 1, "{plan}");
}

#[tokio::test]
async fn a_pinned_version_stays_as_it_was() {
    let (_dir, url) = three_nights().await;
    for (version, sum) in [(3, 75), (1, 5), (2, 30), (0, 0)] {
        let ctx = SessionContext::new();
        ctx.register_table("t", Arc::new(Provider::open(&url, Some(version)).await.unwrap())).unwrap();
        let batches = ctx.sql("SELECT coalesce(sum(candid), 0) FROM t").await.unwrap().collect().await.unwrap();
        let column: &Int64Array = batches[0].column(0).as_any().downcast_ref().unwrap();
        assert_eq!(column.value(0), sum, "version {version}");
    }
}

#[tokio::test]
async fn a_plan_and_its_table_survive_the_wire() {
    let (_dir, url) = folder();
    let batch = alerts(&[("2024 1%/a", 1), ("", 2)]);
    table_of(&url, &by_night(), &[batch]).await;
    let there = Provider::open(&url, Some(1)).await.unwrap();
    let text = serde_json::to_string(there.descriptor()).unwrap();
    let descriptor: Descriptor = serde_json::from_str(&text).unwrap();
    let here = Provider::new(descriptor, datafusion::catalog::TableProvider::schema(&there));

    let ctx = SessionContext::new();
    ctx.register_table("t", Arc::new(here)).unwrap();
    let query = ctx.sql("SELECT * FROM t WHERE candid < 3 ORDER BY candid").await.unwrap();
    let bytes = physical_plan_to_bytes(query.create_physical_plan().await.unwrap()).unwrap();
    let executor = SessionContext::new();
    let plan = physical_plan_from_bytes(&bytes, &executor.task_ctx()).unwrap();
    let batches = datafusion::physical_plan::collect(plan, executor.task_ctx()).await.unwrap();
    let expected = "\
+-----------+--------+
| night     | candid |
+-----------+--------+
| 2024 1%/a | 1      |
|           | 2      |
+-----------+--------+";
    assert_eq!(pretty_format_batches(&batches).unwrap().to_string(), expected);
}

#[tokio::test]
async fn a_file_with_a_deletion_vector_is_refused() {
    let (_dir, url) = folder();
    let batch = alerts(&[("2024-01-01", 1)]);
    let table = Table::ensure(&url, &batch.schema(), &by_night()).await.unwrap();
    let mut adds = attempt(&url, &by_night(), "job-0-0-1", &[batch]).await;
    adds[0].deletion_vector = Some(DeletionVectorDescriptor {
        storage_type: StorageType::Inline,
        path_or_inline_dv: "wi5b=000010000siXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L".to_owned(),
        offset: None,
        size_in_bytes: 40,
        cardinality: 1,
    });
    table.commit(epoch(0, adds), open_fence).await.unwrap();
    let error = session(&url).await.sql("SELECT * FROM t").await.unwrap().collect().await.unwrap_err();
    assert!(error.to_string().contains("part-job-0-0-1-00000.parquet has a deletion vector"), "{error}");
}

#[tokio::test]
async fn a_table_with_mapped_columns_is_refused() {
    let (_dir, url) = folder();
    std::fs::create_dir_all(url.to_file_path().unwrap()).unwrap();
    CreateBuilder::new()
        .with_location(url.as_str())
        .with_column("candid", DataType::LONG, true, None)
        .with_configuration_property(TableProperty::ColumnMappingMode, Some("name"))
        .await
        .unwrap();
    let error = session(&url).await.sql("SELECT * FROM t").await.unwrap().collect().await.unwrap_err();
    assert!(error.to_string().contains("its columns are mapped by name"), "{error}");
    let schema = alerts(&[]).schema();
    assert!(matches!(Table::ensure(&url, &schema, &[]).await, Err(Error::Unsupported { .. })));
}
