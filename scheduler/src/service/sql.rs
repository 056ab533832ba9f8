//! SQL over the warehouse: the tables that jobs wrote, at the versions of their last commit, and the ledger.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{Int64Array, RecordBatch, StringArray, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;
use redpoll_connectors::{delta, widecolumn};
use redpoll_core::log::Log;
use redpoll_core::protocol::JobPaths;
use redpoll_core::quarantine::{self, Records};
use redpoll_core::sink::SinkKind;

use super::jobs::read_ledger;
use super::{Error, Service, Table, TableCatalog};
use crate::engine::Rows;
use crate::pipeline::{plan_question, session};

/// The group of executors that answers questions, if there are any of it: so a heavy question never takes the place of
/// a stream's epochs.
const GROUP: &str = "batch";

impl Service {
    /// Plans a question, runs it on the cluster and holds its rows back until they are certain.
    pub async fn sql(&self, query: &str) -> Result<Rows, Error> {
        let engine = self.engine()?;
        let session = engine.session().map_err(|error| Error::failed("session", error))?;
        let tables = self.register_tables(&session, query).await?;
        let plan = plan(&session, query, &tables).await?;
        let group = engine.has_executor(Some(GROUP)).then_some(GROUP);
        let rows = engine.rows("sql", group, &session, &plan).await;
        rows.map_err(|error| Error::failed("query", error))
    }

    /// Makes the tables that a question may name known to its session.
    async fn register_tables(
        &self,
        session: &SessionContext,
        query: &str,
    ) -> Result<BTreeMap<String, SchemaRef>, Error> {
        let (store, warehouse) = self.objects();
        let catalog = TableCatalog { store: store.as_ref(), warehouse };
        let tables = catalog.tables().await.map_err(|error| Error::failed("catalog of tables", error))?;
        let asked: Vec<&Table> = tables.iter().filter(|table| query.contains(last_part(&table.name))).collect();
        // Only an archive table has versions, and finding them reads the logs of all jobs.
        let versions = match asked.iter().any(|table| table.kind == SinkKind::Delta) {
            true => self.committed_versions().await?,
            false => BTreeMap::new(),
        };
        let mut schemas = BTreeMap::new();
        for table in asked {
            if let Some(provider) = self.provider(table, &versions).await? {
                schemas.insert(table.name.clone(), provider.schema());
                session::register(session, &table.name, provider).map_err(refused)?;
            }
        }
        for (name, provider) in self.own_tables(query).await? {
            schemas.insert(name.to_owned(), provider.schema());
            session::register(session, name, provider).map_err(refused)?;
        }
        // Names of tables that the question does not seem to use are still worth proposing.
        for table in tables {
            schemas.entry(table.name).or_insert_with(|| Arc::new(Schema::empty()));
        }
        Ok(schemas)
    }

    /// Versions of Delta tables at the last commit of the jobs that write them.
    async fn committed_versions(&self) -> Result<BTreeMap<String, u64>, Error> {
        let (store, warehouse) = self.objects();
        let mut versions: BTreeMap<String, u64> = BTreeMap::new();
        let names = super::jobs::job_names(store.as_ref(), warehouse).await;
        for name in names.map_err(|error| Error::failed("jobs", error))? {
            let log = Log::new(store.clone(), JobPaths::new(warehouse, &name));
            for (url, version) in log.read().await.map_err(|error| Error::failed(&name, error))?.tables {
                let newest: &mut u64 = versions.entry(url).or_default();
                *newest = version.max(*newest);
            }
        }
        Ok(versions)
    }

    async fn provider(
        &self,
        table: &Table,
        versions: &BTreeMap<String, u64>,
    ) -> Result<Option<Arc<dyn TableProvider>>, Error> {
        let failed = |error: &dyn std::fmt::Display| Error::failed(format!("table {}", table.name), error);
        match table.kind {
            SinkKind::Topic | SinkKind::Outbox => Ok(None),
            SinkKind::Delta => {
                let url = delta::location(&table.url).map_err(|error| failed(&error))?;
                let version = versions.get(url.as_str()).copied();
                let provider = delta::Provider::open(&url, version).await.map_err(|error| failed(&error))?;
                Ok(Some(Arc::new(provider)))
            }
            SinkKind::Store => {
                let location = widecolumn::Location::parse(&table.url).map_err(|error| failed(&error))?;
                let address = location.address(self.inner.config.store.as_deref()).map_err(|error| failed(&error))?;
                let provider = widecolumn::Provider::open(&address, &location.table).await;
                Ok(Some(Arc::new(provider.map_err(|error| failed(&error))?)))
            }
        }
    }

    /// `redpoll.ledger` and `redpoll.quarantine`, if the question names them.
    async fn own_tables(&self, query: &str) -> Result<Vec<(&'static str, Arc<dyn TableProvider>)>, Error> {
        let (store, warehouse) = self.objects();
        let mut tables: Vec<(&'static str, Arc<dyn TableProvider>)> = Vec::new();
        if query.contains("redpoll.ledger") {
            let ledgers = read_ledger(store.clone(), warehouse).await;
            let batch = ledger_rows(&ledgers.map_err(|error| Error::failed("ledger", error))?).map_err(refused)?;
            let table = MemTable::try_new(batch.schema(), vec![vec![batch]]).map_err(refused)?;
            tables.push(("redpoll.ledger", Arc::new(table)));
        }
        if query.contains("redpoll.quarantine") {
            let failed = |error: &dyn std::fmt::Display| Error::failed("quarantine", error);
            let (records, mut batches) = (asks_for_records(query), Vec::new());
            for name in super::jobs::job_names(store.as_ref(), warehouse).await.map_err(|error| failed(&error))? {
                let paths = JobPaths::new(warehouse, &name);
                let rows = quarantine::table(&self.log(&name), store.as_ref(), &paths, records).await;
                batches.extend(rows.map_err(|error| failed(&error))?);
            }
            let table = MemTable::try_new(quarantine::table_schema(records), vec![batches]).map_err(refused)?;
            tables.push(("redpoll.quarantine", Arc::new(table)));
        }
        Ok(tables)
    }
}

/// Whether a question about the quarantine may want the bytes of records. They can be more than there is memory for, and
/// most questions count reasons.
fn asks_for_records(query: &str) -> Records {
    let counted = query.replace("count(*)", "").replace("COUNT(*)", "");
    let names = |part: &str| ["key", "value", "*"].iter().any(|name| part.contains(name));
    if names(&counted) { Records::Kept } else { Records::LeftOut }
}

/// Plans one `SELECT` (or `EXPLAIN`). Unknown names are told with their places and the nearest ones.
async fn plan(
    session: &SessionContext,
    query: &str,
    tables: &BTreeMap<String, SchemaRef>,
) -> Result<LogicalPlan, Error> {
    let mut statements = session::parse(query).map_err(refused)?;
    let (Some(statement), None) = (statements.pop(), statements.pop()) else {
        return Err(Error::Refused("ask one question at a time".to_owned()));
    };
    if let Statement::Statement(inner) = &statement {
        match inner.as_ref() {
            ast::Statement::Query(_) | ast::Statement::Explain { .. } => {}
            // The engine cannot hand its own list to executors.
            ast::Statement::ShowTables { .. } => {
                let names: Vec<_> = tables.keys().map(String::as_str).collect();
                return Err(Error::Refused(format!("the tables are: {}", names.join(", "))));
            }
            _ => {
                return Err(Error::Refused("only questions: SELECT …; pipelines write, with `redpoll run`".to_owned()));
            }
        }
    }
    Ok(plan_question(session, statement, tables).await?)
}

fn refused(error: DataFusionError) -> Error {
    Error::Refused(error.strip_backtrace())
}

fn last_part(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

fn ledger_rows(ledgers: &BTreeMap<String, Vec<redpoll_core::ledger::Line>>) -> Result<RecordBatch, DataFusionError> {
    let lines: Vec<_> = ledgers.iter().flat_map(|(job, lines)| lines.iter().map(move |line| (job, line))).collect();
    let json = |map: &BTreeMap<String, u64>| serde_json::to_string(map).unwrap_or_default();
    let counts = |get: fn(&redpoll_core::ledger::Line) -> u64| {
        Arc::new(UInt64Array::from_iter_values(lines.iter().map(|(_, line)| get(line))))
    };
    let count = |name: &str| Field::new(name, DataType::UInt64, false);
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let schema = Schema::new(vec![
        text("job"),
        count("epoch"),
        Field::new("planned", DataType::Int64, false),
        count("fetched"),
        count("absent"),
        count("decoded"),
        count("quarantined"),
        count("set_aside"),
        count("kept"),
        text("cut"),
        text("unknown"),
        text("sinks"),
        text("refused"),
        text("withheld"),
        text("replayed"),
        text("recomputed"),
        text("failures"),
        text("versions"),
        text("shadows"),
        text("views"),
        text("digests"),
    ]);
    let maps = |get: fn(&redpoll_core::ledger::Line) -> &BTreeMap<String, u64>| {
        Arc::new(StringArray::from_iter_values(lines.iter().map(|(_, line)| json(get(line)))))
    };
    let texts = |get: fn(&redpoll_core::ledger::Line) -> serde_json::Result<String>| {
        Arc::new(StringArray::from_iter_values(lines.iter().map(|(_, line)| get(line).unwrap_or_default())))
    };
    Ok(RecordBatch::try_new(
        Arc::new(schema),
        vec![
            Arc::new(StringArray::from_iter_values(lines.iter().map(|(job, _)| job.as_str()))),
            counts(|line| line.epoch.0),
            Arc::new(Int64Array::from_iter_values(lines.iter().map(|(_, line)| line.planned))),
            counts(|line| line.fetched),
            counts(|line| line.absent),
            counts(|line| line.decoded),
            counts(|line| line.quarantined),
            counts(redpoll_core::ledger::Line::set_aside),
            counts(|line| line.kept),
            maps(|line| &line.cut),
            maps(|line| &line.unknown),
            maps(|line| &line.sinks),
            maps(|line| &line.refused),
            maps(|line| &line.withheld),
            texts(|line| serde_json::to_string(&line.replayed)),
            maps(|line| &line.recomputed),
            maps(|line| &line.failures),
            texts(|line| serde_json::to_string(&line.versions)),
            texts(|line| serde_json::to_string(&line.shadows)),
            texts(|line| serde_json::to_string(&line.views)),
            texts(|line| serde_json::to_string(&line.digests)),
        ],
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_records_are_read_only_for_questions_that_name_them() {
        let check = |query: &str, records| assert_eq!(asks_for_records(query), records, "{query}");
        check("SELECT stage, count(*) AS n FROM redpoll.quarantine GROUP BY stage", Records::LeftOut);
        check("SELECT topic, error FROM redpoll.quarantine", Records::LeftOut);
        check("SELECT * FROM redpoll.quarantine", Records::Kept);
        check("SELECT q.* FROM redpoll.quarantine AS q", Records::Kept);
        check("SELECT length(value) FROM redpoll.quarantine", Records::Kept);
        check("SELECT count(\"key\"), count(*) FROM redpoll.quarantine", Records::Kept);
    }
}
