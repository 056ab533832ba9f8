//! Reading a table in SQL: the snapshot's files become DataFusion's own Parquet scan.
//!
//! The snapshot is opened where the query is planned. Files whose partition values or statistics rule them out are
//! dropped there; what is left, with its partition values, is a stock `DataSourceExec`, which every executor can
//! decode and of which each task gets its slice. A `Provider` itself travels as its [`Descriptor`].

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatchOptions;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{DFSchema, DataFusionError, ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::listing::helpers::expr_applicable_for_cols;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use deltalake::kernel::LogicalFileView;
use deltalake::table::state::DeltaTableState;
use object_store::ObjectMeta;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use url::{Position, Url};

use super::snapshots::snapshot;
use super::table::{partition_columns, refuse_column_mapping};
use super::{Error, failed};

/// What names a table in a plan that travels.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Descriptor {
    pub url: Url,
    /// The version to read; without one, the newest at the time of planning.
    pub version: Option<u64>,
    /// The table's partition columns: filters on them alone choose files and are then done.
    pub partition_by: Vec<String>,
}

/// A table at a version, as DataFusion reads it. Columns are in the table's own order, partition columns among them.
pub struct Provider {
    descriptor: Descriptor,
    schema: SchemaRef,
    /// Which files are read, by their names without folders. Only in the process that set it.
    wanted: Option<Arc<Wanted>>,
}

pub(super) type Wanted = dyn Fn(&str) -> bool + Send + Sync;

impl Provider {
    /// Reads the schema from the table at `version`, or at its newest.
    pub async fn open(url: &Url, version: Option<u64>) -> Result<Provider, Error> {
        let (state, _) = snapshot(url, version).await?;
        let partition_by = partition_columns(state.metadata()).to_vec();
        let descriptor = Descriptor { url: url.clone(), version, partition_by };
        Ok(Provider { schema: state.snapshot().arrow_schema(), descriptor, wanted: None })
    }

    /// A provider of a known schema, for decoding a plan: nothing is read before `scan`.
    pub fn new(descriptor: Descriptor, schema: SchemaRef) -> Provider {
        Provider { descriptor, schema, wanted: None }
    }

    /// Reads only the files that are wanted.
    pub(super) fn of_files(self, wanted: Arc<Wanted>) -> Provider {
        Provider { wanted: Some(wanted), ..self }
    }

    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn partition_by(&self) -> &[String] {
        &self.descriptor.partition_by
    }

    fn is_partition_filter(&self, filter: &Expr) -> bool {
        let names: Vec<_> = self.partition_by().iter().map(String::as_str).collect();
        !names.is_empty() && expr_applicable_for_cols(&names, filter)
    }

    fn refuse(&self, feature: String, remedy: &'static str) -> Error {
        Error::Unsupported { url: self.descriptor.url.to_string(), feature, remedy }
    }

    fn plan_error(&self, source: DataFusionError) -> Error {
        Error::Plan { url: self.descriptor.url.to_string(), source: Box::new(source) }
    }

    /// The snapshot's files that may hold rows for which all filters are true.
    fn files(&self, session: &dyn Session, state: &DeltaTableState, filters: &[Expr]) -> Result<Files, Error> {
        let (exact, inexact): (Vec<_>, Vec<_>) =
            filters.iter().cloned().partition(|filter| self.is_partition_filter(filter));
        let views: Vec<_> = state.log_data().iter().collect();
        let mut values = Vec::with_capacity(views.len());
        for view in &views {
            values.push(self.partition_values(view)?);
        }
        let by_partition = self.prune_partitions(session, &values, exact).map_err(|e| self.plan_error(e))?;
        let by_stats = self.prune_stats(session, state, inexact).map_err(|e| self.plan_error(e))?;
        let mut files = Files { files: Vec::new(), n_rows: Some(0) };
        for (i, (view, values)) in views.iter().zip(values).enumerate() {
            let path = view.path();
            if self.wanted.as_ref().is_some_and(|wanted| !wanted(path.rsplit('/').next().unwrap_or(&path))) {
                continue;
            }
            if by_partition.as_ref().is_none_or(|keep| keep[i]) && by_stats.as_ref().is_none_or(|keep| keep[i]) {
                files.n_rows = files.n_rows.zip(view.num_records()).map(|(sum, n)| sum + n);
                files.files.push(self.file(view, values)?);
            }
        }
        Ok(files)
    }

    /// Evaluates filters on partition columns alone for each file; this decides them, no row is looked at again.
    fn prune_partitions(
        &self,
        session: &dyn Session,
        values: &[Vec<ScalarValue>],
        filters: Vec<Expr>,
    ) -> Result<Option<Vec<bool>>, DataFusionError> {
        let Some(filter) = conjunction(filters) else { return Ok(None) };
        let schema = Arc::new(Schema::new(self.partition_fields()?));
        let columns = (0..schema.fields().len()).map(|column| match values.is_empty() {
            true => Ok(arrow::array::new_empty_array(schema.field(column).data_type())),
            false => ScalarValue::iter_to_array(values.iter().map(|row| row[column].clone())),
        });
        let columns = columns.collect::<Result<Vec<ArrayRef>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(values.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options)?;
        let filter = session.create_physical_expr(filter, &DFSchema::try_from(schema)?)?;
        let keep = filter.evaluate(&batch)?.into_array(values.len())?;
        Ok(Some(keep.as_boolean().iter().map(|keep| keep == Some(true)).collect()))
    }

    /// Rules out files by the least and greatest values and null counts in the log.
    fn prune_stats(
        &self,
        session: &dyn Session,
        state: &DeltaTableState,
        filters: Vec<Expr>,
    ) -> Result<Option<Vec<bool>>, DataFusionError> {
        let Some(filter) = conjunction(filters) else { return Ok(None) };
        let filter = session.create_physical_expr(filter, &DFSchema::try_from(Arc::clone(&self.schema))?)?;
        let predicate = PruningPredicateBuilder::new().with_file_schema(Arc::clone(&self.schema)).try_build(filter)?;
        predicate.prune(state.snapshot()).map(Some)
    }

    fn partition_fields(&self) -> Result<Vec<Arc<Field>>, DataFusionError> {
        let field = |name: &String| Ok(Arc::new(self.schema.field_with_name(name)?.clone()));
        self.partition_by().iter().map(field).collect()
    }

    fn partition_values(&self, view: &LogicalFileView) -> Result<Vec<ScalarValue>, Error> {
        let mut values = view.partition_values_map();
        let fields = self.partition_fields().map_err(|e| self.plan_error(e))?;
        let parse = |field: &Arc<Field>| match values.remove(field.name()).flatten().filter(|text| !text.is_empty()) {
            Some(text) => ScalarValue::try_from_string(text, field.data_type()),
            None => ScalarValue::try_from(field.data_type()),
        };
        fields.iter().map(parse).collect::<Result<_, _>>().map_err(|e| self.plan_error(e))
    }

    fn file(&self, view: &LogicalFileView, values: Vec<ScalarValue>) -> Result<PartitionedFile, Error> {
        let url = &self.descriptor.url;
        if view.deletion_vector_descriptor().is_some() {
            let remedy = "purge the deleted rows with the engine that deleted them (REORG TABLE … APPLY (PURGE))";
            return Err(self.refuse(format!("{} has a deletion vector", view.path()), remedy));
        }
        if view.path().contains("://") {
            return Err(
                self.refuse(format!("{} lies outside of the table", view.path()), "copy the table, not its log")
            );
        }
        let root = Path::from_url_path(url.path()).map_err(|_| Error::Location { location: url.to_string() })?;
        let location = Path::parse(format!("{root}/{}", view.object_store_path()))
            .map_err(|_| Error::Location { location: format!("{url}{}", view.path()) })?;
        let meta = ObjectMeta {
            location,
            last_modified: view.modification_datetime().map_err(failed(url, "read its log"))?,
            size: u64::try_from(view.size()).unwrap_or(0),
            e_tag: None,
            version: None,
        };
        Ok(PartitionedFile::new_from_meta(meta).with_partition_values(values))
    }

    /// The scan of `files`, with columns `projection` of the table's own order.
    fn plan(
        &self,
        session: &dyn Session,
        files: Files,
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let wanted: Vec<usize> = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        if files.files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(Arc::new(self.schema.project(&wanted)?))));
        }
        let in_files = |field: &&Arc<Field>| !self.partition_by().contains(field.name());
        let file_schema = Schema::new(self.schema.fields().iter().filter(in_files).cloned().collect::<Vec<_>>());
        let table_schema =
            TableSchema::builder(Arc::new(file_schema)).with_table_partition_cols(self.partition_fields()?).build();
        // The scan puts partition columns last; the projection puts them back where the table has them.
        let scan_schema = Arc::clone(table_schema.table_schema());
        let position = |column: &usize| scan_schema.index_of(self.schema.field(*column).name());
        let projection = wanted.iter().map(position).collect::<Result<Vec<_>, _>>()?;
        let mut statistics = Statistics::new_unknown(&scan_schema);
        statistics.num_rows = files.n_rows.map_or(Precision::Absent, Precision::Exact);
        let store = ObjectStoreUrl::parse(&self.descriptor.url[..Position::BeforePath])?;
        let groups = FileGroup::new(files.files).split_files(session.config().target_partitions());
        let source =
            ParquetSource::new(table_schema).with_table_parquet_options(session.table_options().parquet.clone());
        let config = FileScanConfigBuilder::new(store, Arc::new(source))
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_projection_indices(Some(projection))?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

/// Files left after pruning, and the rows in them if all files say.
struct Files {
    files: Vec<PartitionedFile>,
    n_rows: Option<usize>,
}

#[async_trait]
impl TableProvider for Provider {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>, DataFusionError> {
        let decide = |filter: &&Expr| match self.is_partition_filter(filter) {
            true => TableProviderFilterPushDown::Exact,
            false => TableProviderFilterPushDown::Inexact,
        };
        Ok(filters.iter().map(decide).collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let Descriptor { url, version, .. } = &self.descriptor;
        let (state, store) = snapshot(url, *version).await.map_err(external)?;
        refuse_column_mapping(url, state.metadata()).map_err(external)?;
        // A session in this process reads by the same client; an executor's own runtime knows its stores.
        let runtime = session.runtime_env();
        if runtime.object_store_registry.get_store(url).is_err() {
            runtime.register_object_store(url, store.root_object_store(None));
        }
        let files = self.files(session, &state, filters).map_err(external)?;
        self.plan(session, files, projection, limit)
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("delta::Provider").field("descriptor", &self.descriptor).finish_non_exhaustive()
    }
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
