//! Facts of DataFusion that pipelines rest on: an engine upgrade that changes one fails here, not at night.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema};
use ballista_core::extension::ballista_scalar_functions;
use ballista_core::registry::BallistaFunctionRegistry;
use ballista_core::serde::BallistaPhysicalExtensionCodec;
use datafusion::common::{Location, Result};
use datafusion::datasource::MemTable;
use datafusion::execution::TaskContext;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::physical_plan::collect;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_proto::bytes::{
    physical_plan_from_bytes_with_extension_codec, physical_plan_to_bytes_with_extension_codec,
};

use super::testing::{plan, rows, session};

/// Two alerts: one with a detection, an upper limit and a null in its history, one without a history.
const ALERTS: &str = r#"
{"objectId":"ZTF1","candid":1,"candidate":{"jd":2458849.7,"fid":1,"magpsf":16.9,"rb":0.7},"prv_candidates":[{"jd":2458848.7,"fid":1,"magpsf":17.5},{"jd":2458847.7,"fid":2},null]}
{"objectId":"ZTF2","candid":2,"candidate":{"jd":2458849.7,"fid":2,"magpsf":17.0,"rb":0.56},"prv_candidates":null}
"#;

fn alerts() -> SessionContext {
    let detection = || {
        let (jd, fid) = (Field::new("jd", DataType::Float64, true), Field::new("fid", DataType::Int32, true));
        vec![jd, fid, Field::new("magpsf", DataType::Float32, true)]
    };
    let candidate = [detection(), vec![Field::new("rb", DataType::Float32, true)]].concat();
    let history = Field::new_list_field(DataType::Struct(Fields::from(detection())), true);
    let schema = Arc::new(Schema::new(vec![
        Field::new("objectId", DataType::Utf8, false),
        Field::new("candid", DataType::Int64, false),
        Field::new("candidate", DataType::Struct(Fields::from(candidate)), false),
        Field::new_list("prv_candidates", history, true),
    ]));
    let json = arrow::json::ReaderBuilder::new(Arc::clone(&schema)).build(ALERTS.trim().as_bytes()).unwrap();
    let batches = json.collect::<std::result::Result<Vec<_>, _>>().unwrap();
    let session = session();
    session.register_table("alerts", Arc::new(MemTable::try_new(schema, vec![batches]).unwrap())).unwrap();
    session
}

async fn gives(query: &str, expected: &[&str]) {
    assert_eq!(rows(&alerts(), query).await.unwrap(), expected, "{query}");
}

/// The reason, and the line and column (from 1) where DataFusion says it is.
async fn fails(query: &str, reason: &str, at: Option<(u64, u64)>) {
    let session = alerts();
    let optimised = async { session.state().optimize(&plan(&session, query).await?) }.await;
    let error = optimised.expect_err(query);
    assert!(error.to_string().contains(reason), "{query}: {error}");
    let span = error.diagnostic().and_then(|diagnostic| diagnostic.span);
    assert_eq!(span.map(|span| span.start), at.map(|(line, column)| Location { line, column }), "{query}");
}

#[tokio::test]
async fn a_float_column_meets_a_decimal_literal_in_double_and_an_integer_in_single() {
    // 0.7 and 16.9 as singles are 0.699999988 and 16.8999996.
    gives("SELECT candid FROM alerts WHERE candidate.rb >= 0.7", &[]).await;
    gives("SELECT candid FROM alerts WHERE candidate.magpsf < 16.9", &["1"]).await;
    gives("SELECT arrow_typeof(candidate.magpsf * 2.5), arrow_typeof(candidate.magpsf - candidate.jd) FROM alerts LIMIT 1", &["Float64 | Float64"]).await;
    gives("SELECT arrow_typeof(candidate.magpsf + 1) FROM alerts LIMIT 1", &["Float32"]).await;
}

#[tokio::test]
async fn nan_is_greater_than_every_number_and_equal_to_itself() {
    gives("SELECT 'NaN'::double >= 0.55, 'NaN'::double < 5, 'NaN'::double = 'NaN'::double", &["true | false | true"])
        .await;
}

#[tokio::test]
async fn dots_reach_into_structs_and_lists_and_a_column_may_have_its_tables_name() {
    gives("SELECT candidate.fid, alerts.candidate.fid AS again FROM alerts", &["1 | 1", "2 | 2"]).await;
    gives("SELECT candidate.fid, candidate.candidate.fid AS again FROM alerts AS candidate", &["1 | 1", "2 | 2"]).await;
    gives(
        "SELECT prv_candidates.magpsf, alerts.prv_candidates.fid FROM alerts",
        &["[17.5, NULL, NULL] | [1, 2, NULL]", "NULL | NULL"],
    )
    .await;
    gives(
        "SELECT prv_candidates[1].magpsf, prv_candidates.jd[-1], alerts.prv_candidates[2]['fid'] FROM alerts",
        &["17.5 | NULL | 2", "NULL | NULL | NULL"],
    )
    .await;
}

#[tokio::test]
async fn a_list_unnests_in_the_select_list_and_drops_rows_that_have_none() {
    gives("SELECT candid, unnest(prv_candidates).fid FROM alerts", &["1 | 1", "1 | 2", "1 | NULL"]).await;
    gives("SELECT candid, p.magpsf FROM (SELECT candid, unnest(prv_candidates) AS p FROM alerts) WHERE p.magpsf IS NOT NULL", &["1 | 17.5"]).await;
    gives("SELECT x FROM unnest([1, 2]) AS t(x)", &["1", "2"]).await;
}

#[tokio::test]
async fn lambdas_see_fields_by_dots_and_columns_of_the_row() {
    gives(
        "SELECT array_filter(prv_candidates, Past -> Past.fid = candidate.fid) FROM alerts",
        &["[{jd: 2458848.7, fid: 1, magpsf: 17.5}]", "NULL"],
    )
    .await;
    gives("SELECT array_transform(array_filter(prv_candidates, x -> x.magpsf < 18.0), x -> x.jd - candidate.jd) FROM alerts", &["[-1.0]", "NULL"]).await;
    gives("SELECT array_any_match(prv_candidates.magpsf, m -> m > 17) FROM alerts", &["true", "NULL"]).await;
}

#[tokio::test]
async fn sparks_names_are_known_with_three_traps() {
    gives(
        "SELECT size(prv_candidates), size(filter(prv_candidates.fid, x -> x = 1)) FROM alerts",
        &["3 | 1", "-1 | -1"],
    )
    .await;
    gives("SELECT candid, explode(prv_candidates).fid FROM alerts", &["1 | 1", "1 | 2", "1 | NULL"]).await;
    gives("SELECT create_map('g', 1, 'r', 2)['r'], transform([1, 2], x -> x + 1)", &["2 | [2, 3]"]).await;
    gives("SELECT concat_ws('_', objectId, candid), lpad(objectId, 2, '0'), split_part('a_b', '_', 2) FROM alerts LIMIT 1", &["ZTF1_1 | ZT | b"]).await;
    // SUBSTRING is syntax of its own and not Spark's function, CONCAT joins texts only, FLOOR gives an integer.
    gives("SELECT substring('ZTF1', -2, 2), right('ZTF1', 2), floor(1.5)", &[" | F1 | 1"]).await;
    gives("SELECT concat([1], [2]), array_concat([1], [2])", &["[1][2] | [1, 2]"]).await;
    fails("SELECT element_at(prv_candidates.jd, -1) FROM alerts", "Expected a Map type", None).await;
}

#[tokio::test]
async fn an_unknown_name_has_a_place_where_it_is_no_field() {
    fails("SELECT candid,\n  objectid FROM alerts", "No field named objectid", Some((2, 3))).await;
    fails("SELECT candid,\n  a.fid FROM alerts", "No field named a.fid", Some((2, 3))).await;
    fails("SELECT candid FROM alerts\nWHERE nigth(1) = 2", "Did you mean 'night'", Some((2, 7))).await;
    fails("SELECT candid\nFROM alert", "table 'datafusion.public.alert' not found", Some((2, 6))).await;
    fails("SELECT candid FRM alerts", "Expected: end of statement, found: alerts", Some((1, 19))).await;
    fails("SELECT candidate.magpfs FROM alerts", "Field magpfs not found in struct", None).await;
    fails("SELECT prv_candidates.magpfs FROM alerts", "no field 'magpfs', did you mean 'magpsf'?", None).await;
}

#[tokio::test]
async fn a_type_error_has_no_place_and_in_a_filter_comes_when_it_is_optimised() {
    fails("SELECT night(objectId) FROM alerts", "night: argument 1 is Utf8, not a number", None).await;
    fails("SELECT candid FROM alerts WHERE night(objectId) = 1", "night: argument 1 is Utf8, not a number", None).await;
    fails("SELECT candid FROM alerts WHERE candidate > 3", "Cannot infer common argument type", None).await;
    let session = alerts();
    assert!(plan(&session, "SELECT candid FROM alerts WHERE night(objectId) = 1").await.is_ok());
    // Text meets a number by a cast of the text, which fails at the first row that is none.
    let error = rows(&session, "SELECT candid FROM alerts WHERE objectId > candid").await.unwrap_err();
    assert!(error.to_string().contains("Cannot cast string 'ZTF1'"), "{error}");
}

/// `line:column reason`, as `place` finds it.
async fn placed(query: &str, expected: &str) {
    let state = alerts().state();
    let mut statement = state.sql_to_statement(query, &crate::functions::DIALECT).unwrap();
    crate::functions::rewrite(&mut statement);
    let optimised = async { state.optimize(&state.statement_to_plan(statement.clone()).await?) }.await;
    let place = crate::functions::place(&state, &statement, &optimised.expect_err(query)).await.expect(query);
    let found = format!("{}:{} {}", place.location.line, place.location.column, place.reason);
    assert!(found.starts_with(expected), "{query}: {found}");
}

#[tokio::test]
async fn every_mistake_in_an_expression_has_its_place() {
    placed(
        "SELECT candid,\n  candidate.magpfs FROM alerts",
        "2:13 'candidate' has no field 'magpfs', did you mean 'magpsf'?",
    )
    .await;
    placed("SELECT 1 + prv_candidates.magpfs FROM alerts", "1:27 'prv_candidates' has no field 'magpfs', did").await;
    placed("SELECT alerts.candid.x FROM alerts", "1:22 'candid' is Int64 and has no fields").await;
    placed(
        "SELECT candid FROM alerts WHERE candid > 0\n AND night(objectId) = 1",
        "2:6 Error during planning: night: argument 1",
    )
    .await;
    placed(
        "SELECT candid FROM alerts WHERE candid > 0 AND\n candidate > 3",
        "2:2 Error during planning: Cannot infer common",
    )
    .await;
    placed("SELECT candid + candidate FROM alerts", "1:8 Error during planning: Cannot coerce arithmetic").await;
    placed(
        "SELECT n FROM (SELECT candid AS n,\n night(objectId) FROM alerts) WHERE n > 1",
        "2:2 Error during planning: night:",
    )
    .await;
    placed(
        "SELECT array_filter(prv_candidates, x -> x.magpfs > 1) FROM alerts",
        "1:8 Error during planning: Field magpfs",
    )
    .await;
    placed("SELECT candid,\n nigth(candid) FROM alerts", "2:2 Error during planning: Invalid function 'nigth'").await;
    placed(
        "CREATE VIEW v AS SELECT candid FROM alerts WHERE\n candidate.rbb > 1",
        "2:12 'candidate' has no field 'rbb', did you mean 'rb'?",
    )
    .await;
}

/// What an executor decodes plans with: Ballista's functions, ours on top, and the registry's lambdas.
fn executor() -> TaskContext {
    let registry = BallistaFunctionRegistry::default();
    let scalar = ballista_scalar_functions().into_iter().chain(super::all());
    let scalar: HashMap<_, _> = scalar.map(|function| (function.name().to_owned(), function)).collect();
    TaskContext::new(
        None,
        "session".into(),
        SessionConfig::new(),
        scalar,
        registry.higher_order_functions,
        registry.aggregate_functions,
        registry.window_functions,
        Arc::new(RuntimeEnv::default()),
    )
}

#[tokio::test]
async fn our_functions_and_lambdas_travel_to_an_executor_by_name() -> Result<()> {
    let query = "SELECT night(candidate.jd), prv_candidates.fid, history(prv_candidates.magpsf, candidate.magpsf),
        array_filter(prv_candidates, x -> x.magpsf < 18.0 AND x.fid = candidate.fid) FROM alerts";
    let session = alerts();
    let physical = session.state().create_physical_plan(&plan(&session, query).await?).await?;
    let here = collect(Arc::clone(&physical), session.task_ctx()).await?;
    let codec = BallistaPhysicalExtensionCodec::default();
    let bytes = physical_plan_to_bytes_with_extension_codec(physical, &codec)?;
    let executor = executor();
    let decoded = physical_plan_from_bytes_with_extension_codec(&bytes, &executor, &codec)?;
    assert_eq!(collect(decoded, Arc::new(executor)).await?, here);
    Ok(())
}
