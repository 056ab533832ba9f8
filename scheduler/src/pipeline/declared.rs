//! Tables as a pipeline declares them: `CREATE EXTERNAL TABLE`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::datasource::empty::EmptyTable;
use datafusion::sql::parser::CreateExternalTable;
use datafusion::sql::sqlparser::ast;
use redpoll_connectors::sources::ID_OPTION;
use redpoll_core::runtime::SourceSpec;
use redpoll_core::sink::{SinkKind, SinkSpec};

use super::names::table_name;
use super::options::{Written, written};
use super::problem::{Problem, nearest};
use super::statements::Reader;
use super::text::Piece;
use super::{At, Finding, TableKind, session};

/// A table that is written.
pub(super) struct Declared {
    pub spec: SinkSpec,
    pub at: (u64, u64),
    pub options: BTreeMap<String, Written>,
}

impl Declared {
    /// Where a finding about the table stands. `inserts` are the places of its `INSERT`s.
    pub fn place(&self, at: &At, inserts: &[(u64, u64)]) -> (u64, u64) {
        place(at, &self.options, inserts, self.at)
    }

    /// Moves its places down by so many lines.
    pub fn shift(&mut self, lines: u64) {
        self.at.0 += lines;
        self.options.values_mut().for_each(|option| option.shift(lines));
    }
}

fn place(at: &At, options: &BTreeMap<String, Written>, inserts: &[(u64, u64)], table: (u64, u64)) -> (u64, u64) {
    match at {
        At::Table => inserts.first().copied().unwrap_or(table),
        At::Declaration => table,
        At::Option(name) => options.get(name).map_or(table, |written| written.name),
        At::Value(name) => options.get(name).map_or(table, |written| written.value),
        At::Insert(n) => inserts.get(*n).copied().unwrap_or(table),
    }
}

impl Reader<'_> {
    pub(super) async fn table(&mut self, table: CreateExternalTable, piece: &Piece) {
        let (name, at) = (table_name(&table.name), piece.start);
        self.without_effect(&table, &name, at);
        let kind = match table.file_type.to_uppercase().as_str() {
            "ALERTS" => TableKind::Alerts,
            "DELTA" => TableKind::Delta,
            "TOPIC" => TableKind::Topic,
            "STORE" => TableKind::Store,
            other => {
                let near = nearest(other, ["ALERTS", "DELTA", "TOPIC", "STORE"]);
                self.broken.insert(name.clone());
                let message = format!("table '{name}' is STORED AS {other}, which is not a kind of table");
                return self.problem(at, message, near);
            }
        };
        if !matches!(kind, TableKind::Delta) && !table.table_partition_cols.is_empty() {
            let message = format!("table '{name}': PARTITIONED BY is for DELTA tables");
            let remedy = match kind {
                TableKind::Topic => "leave it out; the option 'partition' says to which topic partition a record goes",
                TableKind::Store => "leave it out; the option 'row_key' says how rows are kept together",
                TableKind::Alerts | TableKind::Delta => "leave it out",
            };
            self.problem(at, message, remedy);
        }
        let location = table.locations.first().map(String::as_str).unwrap_or_default();
        let url = match self.surroundings.locate(kind, location, self.pipeline) {
            Ok(url) => url,
            Err(error) => {
                self.problem(at, format!("table '{name}': {error}"), "correct its LOCATION");
                self.broken.insert(name);
                return;
            }
        };
        let places = written(&piece.text);
        let options = self.options(&table, &name, &places, at);
        let kind = match kind {
            TableKind::Alerts => return self.source(SourceSpec { name, url, options }, &places, at).await,
            TableKind::Delta => SinkKind::Delta,
            TableKind::Topic => SinkKind::Topic,
            TableKind::Store => SinkKind::Store,
        };
        if self.sinks.contains_key(&name) || self.tables.contains_key(&name) {
            let message = format!("table '{name}' is declared twice");
            return self.problem(at, message, "give each table a name of its own");
        }
        let partition_by = table.table_partition_cols;
        let spec = SinkSpec { name: name.clone(), kind, url, partition_by, options };
        self.sinks.insert(name, Declared { spec, at, options: places });
    }

    /// What the parser takes and nothing here heeds.
    fn without_effect(&mut self, table: &CreateExternalTable, name: &str, at: (u64, u64)) {
        let found = [
            (!table.columns.is_empty(), "a list of columns", "columns are those of the alerts, or of the INSERT"),
            (!table.constraints.is_empty(), "a constraint", "leave it out; select rows with WHERE"),
            (!table.order_exprs.is_empty(), "WITH ORDER", "leave it out; order when you read"),
            (table.locations.len() > 1, "more than one LOCATION", "give one; a Kafka LOCATION may list topics"),
            (table.unbounded, "UNBOUNDED", "leave it out; `redpoll run` says when a job ends"),
            (table.temporary, "TEMPORARY", "leave it out"),
            (table.or_replace, "OR REPLACE", "leave it out; a table that is there is added to"),
        ];
        for (_, what, remedy) in found.into_iter().filter(|(found, ..)| *found) {
            self.problem(at, format!("table '{name}' has {what}, which means nothing in a pipeline"), remedy);
        }
    }

    fn options(
        &mut self,
        table: &CreateExternalTable,
        name: &str,
        places: &BTreeMap<String, Written>,
        at: (u64, u64),
    ) -> BTreeMap<String, String> {
        let mut options = BTreeMap::new();
        for (key, value) in &table.options {
            if options.insert(key.clone(), self.option(key, value)).is_some() {
                let at = places.get(key).map_or(at, |written| written.name);
                self.problem(at, format!("table '{name}': option '{key}' is given twice"), "keep one of the two");
            }
        }
        options
    }

    /// The text of an option. Paths of schema files start from the pipeline's folder.
    fn option(&self, key: &str, value: &ast::Value) -> String {
        let text = match value {
            ast::Value::SingleQuotedString(text) | ast::Value::DoubleQuotedString(text) => text.clone(),
            other => other.to_string(),
        };
        match key {
            "schema" | "registry" if !text.contains("://") => {
                Path::new(&self.pipeline.folder).join(text).to_string_lossy().into_owned()
            }
            _ => text,
        }
    }

    async fn source(&mut self, spec: SourceSpec, places: &BTreeMap<String, Written>, at: (u64, u64)) {
        if let Some((other, _)) = &self.source {
            let message = format!("'{}' is a second table of alerts, after '{}'", spec.name, other.name);
            return self.problem(at, message, "a pipeline reads one; a Kafka LOCATION may list topics or be a pattern");
        }
        match self.surroundings.alerts(&spec, self.pipeline).await {
            Ok(schema) => {
                if let Some(id) = spec.options.get(ID_OPTION).filter(|id| schema.field_with_name(id).is_err()) {
                    let near = nearest(id, schema.fields().iter().map(|field| field.name().as_str()));
                    let at = place(&At::Value(ID_OPTION.to_owned()), places, &[], at);
                    self.problem(
                        at,
                        format!("table '{}': its 'id' is '{id}', which is no column of it", spec.name),
                        near,
                    );
                }
                self.add_table(&spec.name, &schema);
                self.source = Some((spec, schema));
            }
            Err(findings) => {
                for Finding { at: part, text, .. } in findings {
                    let place = place(&part, places, &[], at);
                    self.problems.push(Problem::told(place, &format!("table '{}': {text}", spec.name)));
                }
                self.broken.insert(spec.name);
            }
        }
    }

    pub(super) fn add_table(&mut self, name: &str, schema: &SchemaRef) {
        // The terms of a table of alerts are no matter of its rows.
        let schema = &Arc::new(Schema::new(schema.fields().clone()));
        self.tables.insert(name.to_owned(), schema.clone());
        let registered = session::register(&self.context, name, Arc::new(EmptyTable::new(schema.clone())));
        if let Err(error) = registered {
            self.problem((0, 0), format!("table '{name}': {error}"), "");
        }
    }
}
