//! An open table: created when missing, grown when the query has new columns, kept up to date by increments.
//!
//! The [`Handle`] stays open for the life of a job: reading a log from scratch costs tens of milliseconds, the few
//! entries since the last look cost one or two. A checkpoint every 10 commits keeps it so; at the default of 100, a commit
//! late in the interval took 86-125 ms instead of 13-50.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake::kernel::transaction::CommitProperties;
use deltalake::kernel::{ArrayType, DataType as KernelType, Metadata, MetadataExt, Snapshot, StructField, StructType};
use deltalake::logstore::LogStoreRef;
use deltalake::operations::create::CreateBuilder;
use deltalake::protocol::SaveMode;
use deltalake::{DeltaTable, DeltaTableError, TableProperty};
use tokio::sync::Mutex;
use tracing::info;
use url::Url;

use super::handle::{Handle, refuse_unknown_features};
use super::schema::{delta_schema, growth};
use super::{Error, failed, log_store};

/// Commits between two checkpoints of a table that we create.
const CHECKPOINT_INTERVAL: &str = "10";
/// How often a schema change is tried again when other writers commit first.
const MAX_ATTEMPTS: u32 = 5;

/// One open table. Cheap to share behind an `Arc`; its calls run one after another.
#[derive(Debug)]
pub struct Table {
    pub(super) url: Url,
    pub(super) inner: Mutex<Handle>,
    /// Columns of the rows to come: what the table lacks of them comes with the next commit.
    pub(super) coming: Mutex<Option<Schema>>,
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
        if !store.is_delta_table_location().await.map_err(failed(url, "look for the table"))? {
            create(url, &store, &schema, partition_by).await?;
        }
        let mut table = Handle::load(url, store).await?;
        refuse_foreign_rules(url, table.snapshot())?;
        check_partitioning(url, table.snapshot().metadata(), partition_by)?;
        grow(url, &mut table, &schema).await?;
        Ok(Table::new(url, table))
    }

    /// Opens a table that exists.
    pub async fn open(url: &Url) -> Result<Table, Error> {
        Ok(Table::new(url, Handle::load(url, log_store(url)?).await?))
    }

    fn new(url: &Url, table: Handle) -> Table {
        Table { url: url.clone(), inner: Mutex::new(table), coming: Mutex::new(None) }
    }

    /// Whether the table can grow to rows of `schema` (any Arrow types). The columns that it would gain, or gain a part
    /// of, come back.
    pub async fn check_growth(&self, schema: &SchemaRef) -> Result<Vec<String>, Error> {
        let schema = delta_schema(schema)?;
        let mut table = self.inner.lock().await;
        table.update().await?;
        let grown = growth(&self.url, &table.snapshot().arrow_schema(), &schema)?;
        Ok(grown.iter().map(|field| field.name().clone()).collect())
    }

    /// Lets the table grow to rows of `schema` with the next commit, in the same log entry: readers never see the
    /// columns without the rows that brought them. To be called once [`Table::check_growth`] agrees.
    pub async fn grow_with_next_commit(&self, schema: &SchemaRef) -> Result<(), Error> {
        *self.coming.lock().await = Some(delta_schema(schema)?);
        Ok(())
    }

    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The newest version, read from the log.
    pub async fn version(&self) -> Result<u64, Error> {
        let mut table = self.inner.lock().await;
        table.update().await?;
        Ok(table.snapshot().version())
    }

    /// Refuses other columns than those that the table is partitioned by.
    pub async fn check_partitioning(&self, asked: &[String]) -> Result<(), Error> {
        check_partitioning(&self.url, self.inner.lock().await.snapshot().metadata(), asked)
    }

    /// The table's columns in their own order, as of the last look at the log.
    pub async fn schema(&self) -> Result<SchemaRef, Error> {
        Ok(self.inner.lock().await.snapshot().arrow_schema())
    }
}

/// Columns of the table whose values are in the log, not in the files.
pub(super) fn partition_columns(table: &Metadata) -> &[String] {
    table.partition_columns()
}

pub(super) fn refuse_column_mapping(url: &Url, table: &Metadata) -> Result<(), Error> {
    match table.configuration().get("delta.columnMapping.mode").map(String::as_str) {
        None | Some("none") => Ok(()),
        Some(mode) => Err(Error::Unsupported {
            url: url.to_string(),
            feature: format!("its columns are mapped by {mode}"),
            remedy: "copy it to a table without delta.columnMapping.mode",
        }),
    }
}

/// Rules that each writer has to keep and that we do not evaluate.
pub(super) fn refuse_foreign_rules(url: &Url, table: &Snapshot) -> Result<(), Error> {
    refuse_unknown_features(url, table.protocol())?;
    refuse_column_mapping(url, table.metadata())?;
    let refuse = |feature, remedy| Err(Error::Unsupported { url: url.to_string(), feature, remedy });
    if let Some(rule) = table.metadata().configuration().keys().find(|key| key.starts_with("delta.constraints.")) {
        return refuse(format!("it has the constraint {rule}"), "drop the constraint, or write to another table");
    }
    let schema = table.schema();
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

pub(super) fn check_partitioning(url: &Url, table: &Metadata, asked: &[String]) -> Result<(), Error> {
    let table = partition_columns(table);
    match table == asked {
        true => Ok(()),
        false => Err(Error::Partitioning { url: url.to_string(), table: table.to_vec(), asked: asked.to_vec() }),
    }
}

/// Writes version 0. Losing the race for it is no error: the winner's table is what the caller loads next.
async fn create(url: &Url, store: &LogStoreRef, schema: &Schema, partition_by: &[String]) -> Result<(), Error> {
    let created = CreateBuilder::new()
        .with_log_store(Arc::clone(store))
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
        Err(error) => match store.is_delta_table_location().await {
            Ok(true) => Ok(()),
            _ => Err(failed(url, "create it")(error)),
        },
    }
}

/// Adds what the table lacks of `schema`. Each round looks at the newest log, so a rival that added the same is fine.
async fn grow(url: &Url, table: &mut Handle, schema: &Schema) -> Result<(), Error> {
    let mut last: Option<DeltaTableError> = None;
    for _ in 0..MAX_ATTEMPTS {
        table.update().await?;
        let grown = growth(url, &table.snapshot().arrow_schema(), schema)?;
        if grown.is_empty() {
            return Ok(());
        }
        let columns: Vec<_> = grown.iter().map(|field| field.name().clone()).collect();
        let fields = kernel_fields(url, &Schema::new(grown))?;
        let properties = CommitProperties::default().with_max_retries(0);
        let mut whole = DeltaTable::new(table.store());
        whole.load().await.map_err(failed(url, "read its log"))?;
        match whole.add_columns().with_fields(fields).with_commit_properties(properties).await {
            Ok(_) => info!(%url, ?columns, "delta table has grown"),
            Err(error) => last = Some(error),
        }
    }
    let contended = || DeltaTableError::Generic("other writers kept changing the table".to_owned());
    Err(failed(url, "add columns")(last.unwrap_or_else(contended)))
}

/// The table's description with what it lacks of `coming`; `None` if it lacks nothing.
pub(super) fn grown_metadata(url: &Url, table: &Snapshot, coming: &Schema) -> Result<Option<Metadata>, Error> {
    let grown = growth(url, &table.arrow_schema(), coming)?;
    if grown.is_empty() {
        return Ok(None);
    }
    let describe = failed(url, "describe its columns");
    let fields = kernel_fields(url, &Schema::new(grown))?;
    let schema = merged(table.schema().fields(), &fields).map_err(&describe)?;
    table.metadata().clone().with_schema(&schema).map(Some).map_err(|error| describe(error.into()))
}

/// The fields of the table as they are, then those of `new` that it lacks, in structs and lists of structs too.
fn merged<'a>(
    table: impl Iterator<Item = &'a StructField>,
    new: &[StructField],
) -> Result<StructType, DeltaTableError> {
    let mut fields: Vec<StructField> = table.cloned().collect();
    for field in new {
        match fields.iter_mut().find(|known| known.name == field.name) {
            None => fields.push(field.clone()),
            Some(known) => known.data_type = merged_type(&known.data_type, &field.data_type)?,
        }
    }
    Ok(StructType::try_new(fields)?)
}

fn merged_type(table: &KernelType, new: &KernelType) -> Result<KernelType, DeltaTableError> {
    Ok(match (table, new) {
        (KernelType::Struct(table), KernelType::Struct(new)) => {
            let new: Vec<StructField> = new.fields().cloned().collect();
            KernelType::Struct(Box::new(merged(table.fields(), &new)?))
        }
        (KernelType::Array(table), KernelType::Array(new)) => {
            let element = merged_type(&table.element_type, &new.element_type)?;
            KernelType::Array(Box::new(ArrayType::new(element, table.contains_null)))
        }
        (table, _) => table.clone(),
    })
}

fn kernel_fields(url: &Url, schema: &Schema) -> Result<Vec<StructField>, Error> {
    let schema: Result<StructType, _> = Arc::new(schema.clone()).try_into_kernel();
    let schema = schema.map_err(|error| failed(url, "describe its columns")(error.into()))?;
    Ok(schema.fields().cloned().collect())
}
