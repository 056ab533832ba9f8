//! A table's open handle: created when missing, grown when the query has new columns, kept up to date by increments.
//!
//! The handle stays open for the life of a job: reading a log from scratch costs tens of milliseconds, the few entries
//! since the last look cost one or two. A checkpoint every 10 commits keeps it so; at the default of 100, a commit
//! late in the interval took 86-125 ms instead of 13-50.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake::kernel::transaction::CommitProperties;
use deltalake::kernel::{StructField, StructType};
use deltalake::operations::create::CreateBuilder;
use deltalake::protocol::SaveMode;
use deltalake::table::state::DeltaTableState;
use deltalake::{DeltaTable, DeltaTableError, TableProperty};
use tokio::sync::Mutex;
use tracing::info;
use url::Url;

use super::schema::{delta_schema, growth};
use super::{Error, failed, log_store};

/// Commits between two checkpoints of a table that we create.
const CHECKPOINT_INTERVAL: &str = "10";
/// How often a schema change is tried again when other writers commit first.
const MAX_ATTEMPTS: u32 = 5;

/// The open handle of one table. Cheap to share behind an `Arc`; its calls run one after another.
#[derive(Debug)]
pub struct Table {
    pub(super) url: Url,
    pub(super) inner: Mutex<DeltaTable>,
}

impl Table {
    /// Opens the table for rows of `schema` (any Arrow types, see [`delta_schema`]): creates it when missing, adds
    /// the columns and nested fields that it lacks, and refuses a changed type or another partitioning.
    pub async fn ensure(url: &Url, schema: &SchemaRef, partition_by: &[String]) -> Result<Table, Error> {
        let schema = delta_schema(schema)?;
        if let Some(missing) = partition_by.iter().find(|name| schema.field_with_name(name).is_err()) {
            let reason = "the table is partitioned by it, but the query has no such column".to_owned();
            return Err(Error::Name { column: missing.clone(), reason });
        }
        let store = log_store(url)?;
        let mut table = DeltaTable::new(store);
        if !table.verify_deltatable_existence().await.map_err(failed(url, "look for the table"))? {
            create(url, &table, &schema, partition_by).await?;
        }
        table.load().await.map_err(failed(url, "read its log"))?;
        refuse_foreign_rules(url, state(url, &table)?)?;
        check_partitioning(url, state(url, &table)?, partition_by)?;
        grow(url, &mut table, &schema).await?;
        Ok(Table { url: url.clone(), inner: Mutex::new(table) })
    }

    /// Opens a table that exists.
    pub async fn open(url: &Url) -> Result<Table, Error> {
        let mut table = DeltaTable::new(log_store(url)?);
        load(url, &mut table).await?;
        Ok(Table { url: url.clone(), inner: Mutex::new(table) })
    }

    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The newest version, read from the log.
    pub async fn version(&self) -> Result<u64, Error> {
        let mut table = self.inner.lock().await;
        table.update_state().await.map_err(failed(&self.url, "read its log"))?;
        Ok(state(&self.url, &table)?.version())
    }

    /// The table's columns in their own order, as of the last look at the log.
    pub async fn schema(&self) -> Result<SchemaRef, Error> {
        Ok(state(&self.url, &*self.inner.lock().await)?.snapshot().arrow_schema())
    }
}

/// Loads the newest state; a table that is not there is [`Error::Missing`].
pub(super) async fn load(url: &Url, table: &mut DeltaTable) -> Result<(), Error> {
    if !table.verify_deltatable_existence().await.map_err(failed(url, "look for the table"))? {
        return Err(Error::Missing { url: url.to_string() });
    }
    table.load().await.map_err(failed(url, "read its log"))
}

pub(super) fn state<'a>(url: &Url, table: &'a DeltaTable) -> Result<&'a DeltaTableState, Error> {
    table.snapshot().map_err(failed(url, "read its log"))
}

/// Columns of the table whose values are in the log, not in the files.
pub(super) fn partition_columns(state: &DeltaTableState) -> &[String] {
    state.metadata().partition_columns()
}

pub(super) fn refuse_column_mapping(url: &Url, state: &DeltaTableState) -> Result<(), Error> {
    match state.metadata().configuration().get("delta.columnMapping.mode").map(String::as_str) {
        None | Some("none") => Ok(()),
        Some(mode) => Err(Error::Unsupported {
            url: url.to_string(),
            feature: format!("its columns are mapped by {mode}"),
            remedy: "copy it to a table without delta.columnMapping.mode",
        }),
    }
}

/// Rules that each writer has to keep and that we do not evaluate.
fn refuse_foreign_rules(url: &Url, state: &DeltaTableState) -> Result<(), Error> {
    refuse_column_mapping(url, state)?;
    let refuse = |feature, remedy| Err(Error::Unsupported { url: url.to_string(), feature, remedy });
    if let Some(rule) = state.metadata().configuration().keys().find(|key| key.starts_with("delta.constraints.")) {
        return refuse(format!("it has the constraint {rule}"), "drop the constraint, or write to another table");
    }
    let schema = state.snapshot().schema();
    for field in schema.fields() {
        let rule =
            field.metadata().keys().find(|key| *key == "delta.generationExpression" || *key == "delta.invariants");
        match rule {
            Some(rule) => return refuse(format!("column '{}' has {rule}", field.name()), "write to another table"),
            None if !field.is_nullable() => {
                return refuse(format!("column '{}' is NOT NULL", field.name()), "drop the constraint NOT NULL");
            }
            None => {}
        }
    }
    Ok(())
}

fn check_partitioning(url: &Url, state: &DeltaTableState, asked: &[String]) -> Result<(), Error> {
    let table = partition_columns(state);
    match table == asked {
        true => Ok(()),
        false => Err(Error::Partitioning { url: url.to_string(), table: table.to_vec(), asked: asked.to_vec() }),
    }
}

/// Writes version 0. Losing the race for it is no error: the winner's table is what the caller loads next.
async fn create(url: &Url, table: &DeltaTable, schema: &Schema, partition_by: &[String]) -> Result<(), Error> {
    let created = CreateBuilder::new()
        .with_log_store(table.log_store())
        .with_save_mode(SaveMode::Ignore)
        .with_columns(kernel_fields(url, schema)?)
        .with_partition_columns(partition_by)
        .with_configuration_property(TableProperty::CheckpointInterval, Some(CHECKPOINT_INTERVAL))
        .with_commit_properties(CommitProperties::default().with_max_retries(0))
        .await;
    match created {
        Ok(_) => {
            info!(%url, ?partition_by, "delta table created");
            Ok(())
        }
        Err(error) => match table.verify_deltatable_existence().await {
            Ok(true) => Ok(()),
            _ => Err(failed(url, "create it")(error)),
        },
    }
}

/// Adds what the table lacks of `schema`. Each round looks at the newest log, so a rival that added the same is fine.
async fn grow(url: &Url, table: &mut DeltaTable, schema: &Schema) -> Result<(), Error> {
    let mut last: Option<DeltaTableError> = None;
    for _ in 0..MAX_ATTEMPTS {
        table.update_state().await.map_err(failed(url, "read its log"))?;
        let grown = growth(url, &state(url, table)?.snapshot().arrow_schema(), schema)?;
        if grown.is_empty() {
            return Ok(());
        }
        let columns: Vec<_> = grown.iter().map(|field| field.name().clone()).collect();
        let fields = kernel_fields(url, &Schema::new(grown))?;
        let properties = CommitProperties::default().with_max_retries(0);
        match table.clone().add_columns().with_fields(fields).with_commit_properties(properties).await {
            Ok(changed) => {
                *table = changed;
                info!(%url, ?columns, "delta table has grown");
            }
            Err(error) => last = Some(error),
        }
    }
    let contended = || DeltaTableError::Generic("other writers kept changing the table".to_owned());
    Err(failed(url, "add columns")(last.unwrap_or_else(contended)))
}

fn kernel_fields(url: &Url, schema: &Schema) -> Result<Vec<StructField>, Error> {
    let schema: Result<StructType, _> = Arc::new(schema.clone()).try_into_kernel();
    let schema = schema.map_err(|error| failed(url, "describe its columns")(error.into()))?;
    Ok(schema.fields().cloned().collect())
}
