use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, ListArray, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, Float64Type};
use arrow::util::pretty::pretty_format_batches;
use datafusion::catalog::TableProvider;
use datafusion::physical_plan::{ExecutionPlan, collect, displayable};
use datafusion::prelude::{SessionConfig, SessionContext};

use super::*;
use crate::local::Store;

fn alerts(n: usize) -> RecordBatch {
    let jd: ArrayRef = Arc::new(Float64Array::from_iter_values((0..n).map(|i| 2458850.0 + i as f64)));
    let fid: ArrayRef = Arc::new(Int32Array::from_iter((0..n).map(|i| (i % 3 > 0).then_some(i as i32 % 3))));
    let candidate = StructArray::from(vec![
        (Arc::new(Field::new("jd", DataType::Float64, true)), jd),
        (Arc::new(Field::new("fid", DataType::Int32, true)), fid),
    ]);
    let objects = StringArray::from_iter((0..n).map(|i| (i != 7).then(|| format!("ZTF{}", i % 4))));
    let history = ListArray::from_iter_primitive::<Float64Type, _, _>((0..n).map(|i| Some(vec![Some(i as f64), None])));
    RecordBatch::try_from_iter([
        ("objectId", Arc::new(objects) as ArrayRef),
        ("candidate", Arc::new(candidate) as ArrayRef),
        ("history", Arc::new(history) as ArrayRef),
    ])
    .unwrap()
}

fn options(families: &str) -> Options {
    Options::new("ztf", [("row_key", "{objectId}_{candidate.jd}"), ("families", families)]).unwrap()
}

/// A store with 11 alerts (one of 12 has no key) in `ztf`, under an address of its own.
async fn filled(folder: &tempfile::TempDir) -> (String, Arc<dyn Backend>) {
    let backend: Arc<dyn Backend> = Arc::new(Store::open(folder.path()).unwrap());
    let address = format!("store://{}", folder.path().file_name().unwrap().to_str().unwrap());
    register(&address, backend.clone());
    let batch = alerts(12);
    let table = Table::new(backend.clone(), "ztf", &options("i:objectId,candidate.*;d:*"), &batch.schema()).unwrap();
    table.create().await.unwrap();
    for _ in 0..2 {
        let written = table.put(&batch, &[5; 12]).await.unwrap();
        let reason = NoKey::Null { column: "objectId".into() };
        assert_eq!(written, Written { rows: 11, rejected: vec![Rejected { row: 7, reason }] });
    }
    (address, backend)
}

async fn context(address: &str) -> SessionContext {
    let config = SessionConfig::new()
        .with_target_partitions(2)
        .set_bool("datafusion.sql_parser.enable_ident_normalization", false);
    let context = SessionContext::new_with_config(config);
    let provider = Provider::open(address, "ztf").await.unwrap();
    context.register_table("ztf", Arc::new(provider)).unwrap();
    context
}

async fn rows(context: &SessionContext, sql: &str) -> String {
    pretty_format_batches(&context.sql(sql).await.unwrap().collect().await.unwrap()).unwrap().to_string()
}

async fn plan(context: &SessionContext, sql: &str) -> String {
    let plan = context.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
    displayable(plan.as_ref()).indent(false).to_string()
}

fn check(found: String, expected: &str) {
    let lines = |text: &str| text.trim().lines().map(str::trim).collect::<Vec<_>>().join("\n");
    assert_eq!(lines(&found), lines(expected), "\n{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_back_typed_and_once_though_they_were_put_twice() {
    let folder = tempfile::tempdir().unwrap();
    let context = context(&filled(&folder).await.0).await;
    let expected = "
        +----------------+----------+-----------+-----+------------+
        | _row_key       | objectId | jd        | fid | history    |
        +----------------+----------+-----------+-----+------------+
        | ZTF0_2458850.0 | ZTF0     | 2458850.0 |     | [0.0,null] |
        | ZTF0_2458854.0 | ZTF0     | 2458854.0 | 1   | [4.0,null] |
        | ZTF0_2458858.0 | ZTF0     | 2458858.0 | 2   | [8.0,null] |
        +----------------+----------+-----------+-----+------------+";
    check(rows(&context, "SELECT * FROM ztf WHERE objectId = 'ZTF0'").await, expected);
    let expected = "
        +----------+----------+
        | count(*) | sum(fid) |
        +----------+----------+
        | 11       | 11       |
        +----------+----------+";
    check(rows(&context, "SELECT count(*) AS \"count(*)\", sum(fid) AS \"sum(fid)\" FROM ztf").await, expected);
    check(rows(&context, "SELECT count(*) AS n FROM ztf WHERE fid = 1").await, "+---+\n| n |\n+---+\n| 3 |\n+---+");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_on_the_key_or_its_first_column_reads_a_range() {
    let folder = tempfile::tempdir().unwrap();
    let context = context(&filled(&folder).await.0).await;
    let scan = async |sql: &str| {
        let plan = plan(&context, sql).await;
        plan.lines().find(|line| line.contains("StoreScanExec")).unwrap_or(&plan).trim().to_string()
    };
    let check = |found: String, expected: &str| assert_eq!(found, expected);
    check(
        scan("SELECT jd FROM ztf WHERE objectId = 'ZTF0'").await,
        "StoreScanExec: table=ztf, range=[ZTF0_, ZTF0`), columns=[objectId, jd]",
    );
    check(
        scan("SELECT jd FROM ztf WHERE _row_key LIKE 'ZTF0%' LIMIT 2").await,
        "StoreScanExec: table=ztf, range=[ZTF0, ZTF1), columns=[jd], limit=2",
    );
    check(
        scan("SELECT _row_key FROM ztf WHERE _row_key BETWEEN 'a' AND 'b'").await,
        "StoreScanExec: table=ztf, range=[a, b\\x00), columns=[_row_key]",
    );
    check(scan("SELECT jd FROM ztf").await, "StoreScanExec: table=ztf, range=[, end), columns=[jd]");
    let nothing = plan(&context, "SELECT jd FROM ztf WHERE _row_key > 'b' AND _row_key < 'a'").await;
    assert!(nothing.contains("EmptyExec"), "{nothing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn alternatives_are_read_side_by_side_and_a_limit_holds() {
    let folder = tempfile::tempdir().unwrap();
    let context = context(&filled(&folder).await.0).await;
    let sql = "SELECT _row_key FROM ztf WHERE objectId IN ('ZTF0', 'ZTF3', 'none') ORDER BY 1";
    let expected = ["ZTF0_2458850.0", "ZTF0_2458854.0", "ZTF0_2458858.0", "ZTF3_2458853.0", "ZTF3_2458861.0"];
    let found = rows(&context, sql).await;
    assert_eq!(expected.iter().filter(|key| found.contains(*key)).count(), 5, "{found}");
    assert_eq!(found.lines().count(), 4 + 5, "{found}");
    assert_eq!(rows(&context, "SELECT jd FROM ztf LIMIT 4").await.lines().count(), 4 + 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_survives_the_journey_to_another_process() {
    let folder = tempfile::tempdir().unwrap();
    let (address, _) = filled(&folder).await;
    let context = context(&address).await;
    let provider = Provider::open(&address, "ztf").await.unwrap();
    let state = context.state();
    let plan = provider.scan(&state, Some(&vec![0, 2]), &[], Some(3)).await.unwrap();
    let scan = plan.downcast_ref::<ScanExec>().unwrap();
    let inputs: Vec<_> = scan.children().into_iter().cloned().collect();
    assert!(inputs[0].children().is_empty(), "the leaf below is the engine's own");
    let arrived = ScanExec::from_json(&scan.to_json().unwrap(), &inputs).unwrap();
    assert_eq!(displayable(arrived.as_ref()).one_line().to_string(), displayable(plan.as_ref()).one_line().to_string());
    let here = collect(plan, context.task_ctx()).await.unwrap();
    assert_eq!(collect(arrived, context.task_ctx()).await.unwrap(), here);
    assert_eq!(here.iter().map(RecordBatch::num_rows).sum::<usize>(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_pipeline_adds_columns_but_changes_no_type() {
    let folder = tempfile::tempdir().unwrap();
    let (address, backend) = filled(&folder).await;
    let more = RecordBatch::try_from_iter([
        ("objectId", Arc::new(StringArray::from(vec!["ZTF0"])) as ArrayRef),
        ("candidate", alerts(1).column(1).clone()),
        ("roid", Arc::new(Int32Array::from(vec![3])) as ArrayRef),
    ])
    .unwrap();
    let table = Table::new(backend.clone(), "ztf", &options("i:objectId,candidate.*;d:*"), &more.schema()).unwrap();
    table.create().await.unwrap();
    table.put(&more, &[6]).await.unwrap();
    let found = rows(&context(&address).await, "SELECT history, roid FROM ztf WHERE _row_key = 'ZTF0_2458850.0'").await;
    assert!(found.contains("[0.0,null] | 3"), "{found}");
    let table = Table::new(backend, "ztf", &options("d:*"), &more.schema()).unwrap();
    let error = table.create().await.unwrap_err();
    assert!(matches!(error, Error::Conflict { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_never_made_is_answered_with_the_nearest_name() {
    let folder = tempfile::tempdir().unwrap();
    let (address, _) = filled(&folder).await;
    let error = Provider::open(&address, "ztfs").await.unwrap_err();
    assert_eq!(error.to_string(), "table 'ztfs' is not in the store; did you mean 'ztf'?");
}

#[test]
fn options_that_are_wrong_say_so_before_anything_runs() {
    let check = |pairs: &[(&str, &str)], expected: &str| {
        assert_eq!(Options::new("ztf", pairs.iter().copied()).unwrap_err().to_string(), expected);
    };
    let missing = "option 'row_key' of table 'ztf': is missing; write 'row_key' '{COLUMN}_{COLUMN}'";
    check(&[], missing);
    check(&[("rowkey", "{a}")], "option 'rowkey' of table 'ztf': is unknown; did you mean 'row_key'?");
}
