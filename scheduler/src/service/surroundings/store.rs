//! Wide-column tables: row key and families over the rows, and what the store's catalog says already.

use std::time::Duration;

use datafusion::arrow::datatypes::SchemaRef;
use redpoll_connectors::sinks::open_table;
use redpoll_connectors::widecolumn::{Catalog, Error, Families, RowKey};
use redpoll_core::sink::SinkSpec;

use super::unknown;
use crate::pipeline::{At, Finding};

const OPTIONS: [&str; 3] = ["row_key", "families", "timestamp"];
/// How long a store may take to tell its catalog.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn options(spec: &SinkSpec) -> Vec<Finding> {
    let mut findings = unknown(spec.options.keys(), &OPTIONS, "a STORE table");
    match spec.options.get("row_key").map(|text| RowKey::parse(text)) {
        None => findings.push(Finding::problem(
            At::Declaration,
            "it has no option 'row_key'; add OPTIONS ('row_key' '{COLUMN}_{COLUMN}')",
        )),
        Some(parsed) => findings.extend(parsed.err().map(|error| of("row_key", &error))),
    }
    findings.extend(families(spec).err().map(|error| of("families", &error)));
    findings
}

pub(super) async fn rows(spec: &SinkSpec, rows: &[SchemaRef], store: Option<&str>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = rows.iter().flat_map(|rows| columns(spec, rows)).collect();
    if findings.iter().any(|finding| !finding.is_warning) {
        return findings;
    }
    let mut known: Option<Catalog> = None;
    for (insert, rows) in rows.iter().enumerate() {
        let table = match open_table(spec, rows, store) {
            Ok(table) => table,
            Err(error) => {
                findings.push(Finding::problem(At::Insert(insert), error.reason));
                continue;
            }
        };
        if insert == 0 {
            known = match tokio::time::timeout(PATIENCE, table.known()).await {
                Ok(Ok(known)) => known,
                Ok(Err(error)) => return told(findings, error),
                Err(_) => {
                    return told(findings, format!("its store did not answer within {PATIENCE:?}; is it running?"));
                }
            };
        }
        let before = known.get_or_insert_with(|| table.catalog().clone());
        let conflicts = before.conflicts(table.catalog(), &spec.name).into_iter();
        findings.extend(conflicts.map(|conflict| Finding::problem(At::Insert(insert), conflict)));
        if let Ok(both) = before.with(table.catalog(), &spec.name) {
            *before = both;
        }
    }
    findings
}

fn told(mut findings: Vec<Finding>, error: impl ToString) -> Vec<Finding> {
    findings.push(Finding::problem(At::Declaration, error));
    findings
}

/// What row key and families make of the columns of an `INSERT`.
fn columns(spec: &SinkSpec, rows: &SchemaRef) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(Ok(row_key)) = spec.options.get("row_key").map(|text| RowKey::parse(text)) {
        findings.extend(row_key.check(rows).err().map(|error| of("row_key", &error)));
    }
    match families(spec).and_then(|families| families.left_out(rows)) {
        Ok(left_out) => findings.extend(left_out.into_iter().map(|(path, first)| {
            let text = format!("column '{path}' is left out, since '{first}' has its name; write AS to keep both");
            Finding::warning(At::Value("families".to_owned()), text)
        })),
        Err(error) => findings.push(of("families", &error)),
    }
    findings
}

fn families(spec: &SinkSpec) -> Result<Families, Error> {
    spec.options.get("families").map_or(Ok(Families::default()), |text| Families::parse(text))
}

fn of(option: &str, error: &Error) -> Finding {
    Finding::problem(At::Value(option.to_owned()), error)
}
