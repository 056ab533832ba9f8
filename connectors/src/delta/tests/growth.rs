//! Schemas that grow, and those that must not change.

use arrow::array::{Array, Float64Array, Int32Array, ListArray, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields, Schema};

use super::*;

/// A struct of floats, one value each.
fn floats(values: &[(&str, f64)]) -> StructArray {
    let fields: Fields = values.iter().map(|(name, _)| Field::new(*name, DataType::Float64, true)).collect();
    let columns = values.iter().map(|(_, value)| Arc::new(Float64Array::from(vec![*value])) as ArrayRef).collect();
    StructArray::new(fields, columns, None)
}

/// One alert: candid, a struct, a list of one struct; further columns at will.
fn alert(candid: i64, candidate: &[(&str, f64)], history: &[(&str, f64)], more: Option<i32>) -> RecordBatch {
    let history = floats(history);
    let item = Arc::new(Field::new("item", history.data_type().clone(), true));
    let history = ListArray::new(item, OffsetBuffer::from_lengths([1]), Arc::new(history), None);
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        ("candid", Arc::new(Int64Array::from(vec![candid]))),
        ("candidate", Arc::new(floats(candidate))),
        ("prv_candidates", Arc::new(history)),
    ];
    if let Some(value) = more {
        columns.push(("roid", Arc::new(Int32Array::from(vec![value]))));
    }
    RecordBatch::try_from_iter(columns).unwrap()
}

#[tokio::test]
async fn old_files_read_null_in_columns_structs_and_lists_that_have_grown() {
    let (_dir, url) = folder();
    let old = alert(1, &[("rb", 0.5)], &[("magpsf", 17.0)], None);
    let new = alert(2, &[("rb", 0.75), ("drb", 0.25)], &[("magpsf", 18.0), ("fid", 2.0)], Some(3));
    table_of(&url, &[], std::slice::from_ref(&old)).await;
    let table = Table::ensure(&url, &new.schema(), &[]).await.unwrap();
    let adds = attempt(&url, &[], "job-1-0-1", &[new]).await;
    table.commit(epoch(1, adds), open_fence).await.unwrap();
    // A job of the old revision goes on writing what it knows.
    let old_revision = Table::ensure(&url, &old.schema(), &[]).await.unwrap();
    let adds = attempt(&url, &[], "job-2-0-1", &[old]).await;
    old_revision.commit(epoch(2, adds), open_fence).await.unwrap();

    let expected = "\
+--------+------------------------+-----------------------------+------+
| candid | candidate              | prv_candidates              | roid |
+--------+------------------------+-----------------------------+------+
| 1      | {rb: 0.5, drb: }       | [{magpsf: 17.0, fid: }]     |      |
| 1      | {rb: 0.5, drb: }       | [{magpsf: 17.0, fid: }]     |      |
| 2      | {rb: 0.75, drb: 0.25}  | [{magpsf: 18.0, fid: 2.0}]  | 3    |
+--------+------------------------+-----------------------------+------+";
    let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").replace('-', "");
    assert_eq!(squeeze(&rows(&url, "SELECT * FROM t ORDER BY candid").await), squeeze(expected));
    for (filter, n) in [
        ("roid = 3", 1),
        ("roid IS NULL", 2),
        ("candidate['drb'] = 0.25", 1),
        ("candidate['drb'] IS NULL", 2),
        ("prv_candidates[1]['fid'] = 2.0", 1),
        ("prv_candidates[1]['fid'] IS NULL", 2),
        ("prv_candidates[1]['magpsf'] = 17.0", 2),
    ] {
        assert_eq!(number(&url, &format!("SELECT count(candid) FROM t WHERE {filter}")).await, n, "{filter}");
    }
}

#[tokio::test]
async fn a_running_job_grows_its_table_in_the_entry_that_brings_the_rows() {
    let (_dir, url) = folder();
    let old = alert(1, &[("rb", 0.5)], &[("magpsf", 17.0)], None);
    let new = alert(2, &[("rb", 0.75), ("drb", 0.25)], &[("magpsf", 18.0), ("fid", 2.0)], Some(3));
    let table = table_of(&url, &[], std::slice::from_ref(&old)).await;
    let columns = table.check_growth(&new.schema()).await.unwrap();
    assert_eq!(columns, ["candidate", "prv_candidates", "roid"]);
    table.grow_with_next_commit(&new.schema()).await.unwrap();
    assert_eq!((table.version().await.unwrap(), table.schema().await.unwrap().fields().len()), (1, 3));

    // One entry holds the new columns, the rows and the number of the epoch.
    let adds = attempt(&url, &[], "job-1-0-1", std::slice::from_ref(&new)).await;
    assert_eq!(table.commit(epoch(1, adds), open_fence).await.unwrap(), Committed::Now(2));
    assert_eq!(table.schema().await.unwrap().fields().len(), 4);
    let filter = "candidate['drb'] = 0.25 AND prv_candidates[1]['fid'] = 2.0 AND roid = 3";
    assert_eq!(number(&url, &format!("SELECT count(candid) FROM t WHERE {filter}")).await, 1);
    assert_eq!(number(&url, "SELECT count(candid) FROM t WHERE candidate['drb'] IS NULL").await, 1);
    let entry = url.to_file_path().unwrap().join("_delta_log/00000000000000000002.json");
    let entry = std::fs::read_to_string(entry).unwrap();
    assert_eq!(entry.matches("\"metaData\"").count(), 1);

    // The next commit says nothing of columns.
    let adds = attempt(&url, &[], "job-2-0-1", &[new]).await;
    table.commit(epoch(2, adds), open_fence).await.unwrap();
    let entry = url.to_file_path().unwrap().join("_delta_log/00000000000000000003.json");
    assert!(!std::fs::read_to_string(entry).unwrap().contains("\"metaData\""));
}

#[tokio::test]
async fn growth_that_changes_a_type_is_refused_before_anything_is_written() {
    let (_dir, url) = folder();
    let table = table_of(&url, &[], &[alert(1, &[("rb", 0.5)], &[("magpsf", 17.0)], None)]).await;
    let rb = Fields::from(vec![Field::new("rb", DataType::Utf8, true)]);
    let changed = Arc::new(Schema::new(vec![Field::new("candidate", DataType::Struct(rb), true)]));
    let error = table.check_growth(&changed).await.unwrap_err();
    assert!(matches!(error, Error::SchemaChange { .. }), "{error}");
}

#[tokio::test]
async fn a_null_struct_stays_null_when_it_grows() {
    let (_dir, url) = folder();
    let (fields, columns, _) = floats(&[("rb", 0.5)]).into_parts();
    let none = StructArray::new(fields, columns, Some(NullBuffer::new_null(1)));
    let old = RecordBatch::try_from_iter([("candidate", Arc::new(none) as ArrayRef)]).unwrap();
    let new = floats(&[("rb", 0.75), ("drb", 0.25)]);
    let new = RecordBatch::try_from_iter([("candidate", Arc::new(new) as ArrayRef)]).unwrap();
    table_of(&url, &[], &[old]).await;
    Table::ensure(&url, &new.schema(), &[]).await.unwrap();
    assert_eq!(number(&url, "SELECT count(*) FROM t WHERE candidate IS NULL").await, 1);
}

#[tokio::test]
async fn a_changed_type_is_refused_with_its_column_and_both_types() {
    let (_dir, url) = folder();
    table_of(&url, &[], &[alert(1, &[("rb", 0.5)], &[("magpsf", 17.0)], None)]).await;
    let rb = Fields::from(vec![Field::new("rb", DataType::Utf8, true)]);
    let changed = Arc::new(Schema::new(vec![Field::new("candidate", DataType::Struct(rb), true)]));
    let error = Table::ensure(&url, &changed, &[]).await.unwrap_err();
    let expected = "column 'candidate.rb' is Float64 in the table, Utf8 in the query; cast it, or rename it with AS";
    assert_eq!(error.to_string(), format!("{url}: {expected}"));
}

#[tokio::test]
async fn a_name_that_differs_by_case_alone_is_refused() {
    let (_dir, url) = folder();
    table_of(&url, &[], &[alerts(&[("2024-01-01", 1)])]).await;
    let schema = Arc::new(Schema::new(vec![Field::new("candID", DataType::Int64, true)]));
    let error = Table::ensure(&url, &schema, &[]).await.unwrap_err();
    assert!(matches!(error, Error::Name { .. }), "{error}");
}

#[tokio::test]
async fn another_partitioning_is_refused() {
    let (_dir, url) = folder();
    let batch = alerts(&[("2024-01-01", 1)]);
    table_of(&url, &by_night(), std::slice::from_ref(&batch)).await;
    let error = Table::ensure(&url, &batch.schema(), &[]).await.unwrap_err();
    assert!(matches!(error, Error::Partitioning { .. }), "{error}");
}

#[tokio::test]
async fn two_that_create_one_table_both_get_it() {
    let (_dir, url) = folder();
    let schema = alerts(&[]).schema();
    let partition_by = by_night();
    let (a, b) = tokio::join!(Table::ensure(&url, &schema, &partition_by), Table::ensure(&url, &schema, &partition_by));
    assert_eq!((a.unwrap().version().await.unwrap(), b.unwrap().version().await.unwrap()), (0, 0));
}

#[tokio::test]
async fn a_table_that_is_not_there_is_said_so() {
    let (_dir, url) = folder();
    assert!(matches!(Table::open(&url).await, Err(Error::Missing { .. })));
    assert!(matches!(Provider::open(&url, None).await, Err(Error::Missing { .. })));
}
