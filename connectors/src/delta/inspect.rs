//! What stands against rows in a table, found before anything is written or made.

use arrow::datatypes::{Schema, SchemaRef};
use url::Url;

use super::handle::Handle;
use super::schema::{clashes, delta_schema, unfit};
use super::table::{check_partitioning, refuse_foreign_rules};
use super::{Error, log_store};

/// Why a table cannot be written as it is wanted.
#[derive(Debug)]
pub struct Clash {
    /// Which of the queries clashes; none if it is the table itself.
    pub query: Option<usize>,
    pub error: Error,
}

/// Everything that [`super::Table::ensure`] would refuse, of all queries (by their Arrow types) that write one table.
/// Changes nothing; a table that is not there yet is fine.
pub async fn inspect(url: &Url, queries: &[SchemaRef], partition_by: &[String]) -> Vec<Clash> {
    let (table, found) = there(url, partition_by).await;
    let mut found: Vec<Clash> = found.into_iter().map(|error| Clash { query: None, error }).collect();
    let mut before: Vec<Schema> = Vec::new();
    for (query, schema) in queries.iter().enumerate() {
        let Ok(schema) = delta_schema(schema) else {
            found.extend(unfit(schema).into_iter().map(|error| Clash { query: Some(query), error }));
            continue;
        };
        let mut errors = unfit_to_partition(&schema, partition_by);
        errors.extend(table.iter().flat_map(|table| clashes(url, table, &schema)));
        if errors.is_empty() {
            let others =
                before.iter().find_map(|before| Some(clashes(url, before, &schema)).filter(|all| !all.is_empty()));
            errors.extend(others.into_iter().flatten().map(among_queries));
        }
        found.extend(errors.into_iter().map(|error| Clash { query: Some(query), error }));
        before.push(schema);
    }
    found
}

/// The columns of the table, if it is there, and what is against writing it at all.
async fn there(url: &Url, partition_by: &[String]) -> (Option<Schema>, Vec<Error>) {
    let store = match log_store(url) {
        Ok(store) => store,
        Err(error) => return (None, vec![error]),
    };
    match Handle::load(url, store).await {
        Ok(table) => {
            let table = table.snapshot();
            let checked = [refuse_foreign_rules(url, table), check_partitioning(url, table.metadata(), partition_by)];
            let errors = checked.into_iter().filter_map(Result::err).collect();
            (Some(table.arrow_schema().as_ref().clone()), errors)
        }
        Err(Error::Missing { .. }) => (None, Vec::new()),
        Err(error) => (None, vec![error]),
    }
}

fn unfit_to_partition(schema: &Schema, partition_by: &[String]) -> Vec<Error> {
    let wrong = |column: &String| {
        let reason = match schema.field_with_name(column) {
            Err(_) => format!("the SELECT has no column of this name; add one with AS {column}"),
            Ok(field) if field.data_type().is_nested() => format!("it is {}; use a field of it", field.data_type()),
            Ok(_) => return None,
        };
        Some(Error::NoPartition { column: column.clone(), reason })
    };
    partition_by.iter().filter_map(wrong).collect()
}

/// What a table would say that has the columns of another query.
fn among_queries(error: Error) -> Error {
    match error {
        Error::SchemaChange { column, table_type, new_type, .. } => {
            Error::Disagree { column, before: table_type, new_type }
        }
        Error::Name { column, .. } => {
            let reason = "an INSERT before spells it with other case, and delta takes the two as one".to_owned();
            Error::Name { column, reason }
        }
        error => error,
    }
}
