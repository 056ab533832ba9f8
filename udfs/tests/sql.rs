//! Runs `tests/sql/functions/*.slt`: the native functions as a user calls them.
//!
//! Of sqllogictest's format: `query`, its SQL, `----`, the rows with columns between spaces; and `statement error TEXT`,
//! its SQL. Records are separated by empty lines.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::path::Path;
use std::sync::Arc;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::Result;
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use redpoll_udfs::functions;

fn session() -> SessionContext {
    let config = SessionConfig::new()
        .set_bool("datafusion.sql_parser.enable_ident_normalization", false)
        .set_str("datafusion.sql_parser.dialect", functions::DIALECT.as_ref());
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_expr_planners(vec![Arc::new(functions::StructPaths)])
        .with_default_features()
        .build();
    let session = SessionContext::new_with_state(state);
    for function in functions::all() {
        session.register_udf(function.as_ref().clone());
    }
    session
}

async fn run(session: &SessionContext, sql: &str) -> Result<String> {
    let state = session.state();
    let mut statement = state.sql_to_statement(sql, &functions::DIALECT)?;
    functions::rewrite(&mut statement);
    let plan = state.statement_to_plan(statement).await?;
    let batches = session.execute_logical_plan(plan).await?.collect().await?;
    let options = FormatOptions::new().with_null("NULL");
    let mut rows = Vec::new();
    for batch in &batches {
        let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options));
        let columns = columns.collect::<std::result::Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            rows.push(columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join(" "));
        }
    }
    Ok(rows.join("\n"))
}

/// What is wrong with a record, if anything.
async fn check(session: &SessionContext, record: &str) -> Option<String> {
    let (head, body) = record.split_once('\n')?;
    if let Some(reason) = head.strip_prefix("statement error ") {
        return match run(session, body).await {
            Err(error) if error.to_string().contains(reason) => None,
            other => Some(format!("wanted an error with '{reason}', found {other:?}")),
        };
    }
    let (sql, expected) = body.split_once("\n----\n")?;
    match run(session, sql).await {
        Ok(rows) if rows == expected => None,
        Ok(rows) => Some(format!("wanted\n{expected}\nfound\n{rows}")),
        Err(error) => Some(error.to_string()),
    }
}

#[tokio::test]
async fn functions_answer_as_their_sql_files_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/sql/functions");
    let mut n_records = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let session = session();
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        for record in lines.join("\n").split("\n\n").map(str::trim).filter(|record| !record.is_empty()) {
            let wrong = check(&session, record).await;
            assert!(wrong.is_none(), "{}:\n{record}\n{}", path.display(), wrong.unwrap_or_default());
            n_records += 1;
        }
    }
    assert!(n_records > 20, "{n_records} records");
}
