//! The outline of a checked pipeline: see [`redpoll_core::revision`].

use std::collections::BTreeMap;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::Expr;
use redpoll_connectors::outbox::alters_messages;
use redpoll_connectors::{kafka, sources};
use redpoll_core::revision::{Insert, Outline, Reads, Rule, View};
use redpoll_core::runtime::SourceSpec;
use redpoll_core::sink::{SinkKind, SinkSpec};
use redpoll_core::steps::mask_column;

use super::Compiled;
use super::chain::{ChainStep, Tap};
use super::flatten::{Level, named};

impl Compiled {
    /// What of this pipeline can alter rows.
    pub fn outline(&self) -> Outline {
        let calls = self.calls();
        Outline {
            reads: reads(&self.source),
            fields: sources::leaves(&self.reader).into_iter().map(|(path, of)| (path, of.to_string())).collect(),
            views: self.steps.iter().filter_map(|step| self.cut(step, &calls)).collect(),
            sinks: self.tables(),
            inserts: self.taps.iter().map(|tap| self.insert(tap, &calls)).collect(),
            modules: self.modules.clone(),
            catalogs: self.catalogs.iter().map(|(name, listed)| (name.clone(), listed.catalog.lock.clone())).collect(),
        }
    }

    /// Columns that modules and catalogues add, each as the call that it is: their numbers change when another call is added.
    fn calls(&self) -> BTreeMap<String, String> {
        let mut calls = BTreeMap::new();
        for step in &self.steps {
            match step {
                ChainStep::Enrich { module, column, arguments, .. } => {
                    let arguments: Vec<String> = arguments.iter().map(|argument| means(argument, &calls)).collect();
                    calls.insert(column.clone(), format!("{module}({})", arguments.join(", ")));
                }
                ChainStep::Match { call, column, .. } => {
                    let [ra, dec] = call.position.each_ref().map(|angle| means(angle, &calls));
                    let (catalog, function, radius) = (&call.catalog, call.function(), call.cone.radius);
                    calls.insert(column.clone(), format!("{function}('{catalog}', {ra}, {dec}, {radius})"));
                }
                ChainStep::Cut { .. } => {}
            }
        }
        calls
    }

    fn cut(&self, step: &ChainStep, calls: &BTreeMap<String, String>) -> Option<View> {
        let ChainStep::Cut { view, mask, rules, .. } = step else { return None };
        let rule = |(text, rule): &(String, Expr)| Rule { text: text.clone(), means: means(rule, calls) };
        let over = self.view_of(mask.as_deref());
        Some(View { name: view.clone(), over, rules: rules.iter().map(rule).collect() })
    }

    pub(super) fn view_of(&self, mask: Option<&str>) -> Option<String> {
        let mut names = self.steps.iter().filter_map(|step| match step {
            ChainStep::Cut { view, .. } => Some(view),
            ChainStep::Enrich { .. } | ChainStep::Match { .. } => None,
        });
        names.find(|name| Some(mask_column(name).as_str()) == mask).cloned()
    }

    /// Each table once, though several `INSERT`s may write it.
    fn tables(&self) -> Vec<SinkSpec> {
        let mut tables: Vec<SinkSpec> = Vec::new();
        for (sink, _) in &self.sinks {
            if !tables.iter().any(|table| table.name == sink.name) {
                tables.push(SinkSpec { options: of_table(sink), ..sink.clone() });
            }
        }
        tables
    }

    fn insert(&self, tap: &Tap, calls: &BTreeMap<String, String>) -> Insert {
        let (last, before) = tap.levels.split_last().map_or((None, &[][..]), |(last, before)| (Some(last), before));
        let conjuncts = last.map(|level| level.conjuncts.as_slice()).unwrap_or_default();
        let texts = if tap.texts.len() == conjuncts.len() { tap.texts.as_slice() } else { &[] };
        let rules = conjuncts.iter().enumerate().map(|(i, conjunct)| {
            let means = means(conjunct, calls);
            Rule { text: texts.get(i).unwrap_or(&means).clone(), means }
        });
        Insert {
            sink: tap.sink.clone(),
            over: self.view_of(tap.mask.as_deref()),
            rules: rules.collect(),
            before: before.iter().map(|level| text(level, calls)).collect(),
            columns: last.map(|level| columns(level, calls)).unwrap_or_default(),
        }
    }
}

fn columns(level: &Level, calls: &BTreeMap<String, String>) -> Vec<(String, String)> {
    level.columns.iter().map(|(name, expr)| (name.clone(), means(expr, calls))).collect()
}

fn text(level: &Level, calls: &BTreeMap<String, String>) -> String {
    let conjuncts: Vec<String> = level.conjuncts.iter().map(|conjunct| means(conjunct, calls)).collect();
    format!("{:?} where {conjuncts:?}, unnest {:?}", columns(level, calls), level.unnest)
}

fn means(expr: &Expr, calls: &BTreeMap<String, String>) -> String {
    let spelt = expr.clone().transform_up(|expr| {
        Ok(match &expr {
            Expr::Column(column) => match calls.get(&column.name) {
                Some(call) => Transformed::yes(named(call)),
                None => Transformed::no(expr),
            },
            _ => Transformed::no(expr),
        })
    });
    spelt.map_or_else(|_| expr.to_string(), |spelt| spelt.data.to_string())
}

fn reads(source: &SourceSpec) -> Reads {
    let (table, options) = (source.name.clone(), that_alter_rows(&source.options));
    let of_kafka: BTreeMap<_, _> = source
        .options
        .iter()
        .filter(|(name, _)| !sources::OPTIONS.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    match kafka::Config::parse(&source.url, &of_kafka) {
        Ok(config) => {
            let places = match config.topic {
                kafka::Topics::Names(names) => names,
                kafka::Topics::Pattern(pattern) => vec![pattern],
            };
            Reads { table, brokers: config.brokers, places, options }
        }
        Err(_) => Reads { table, brokers: vec![], places: vec![source.url.clone()], options },
    }
}

/// The options of a table that alter what is written there.
fn of_table(sink: &SinkSpec) -> BTreeMap<String, String> {
    match sink.kind {
        SinkKind::Outbox => {
            let mut options = sink.options.clone();
            options.retain(|name, _| alters_messages(name));
            options
        }
        _ => that_alter_rows(&sink.options),
    }
}

/// How a broker is reached and how fast, and what is known by its fields already, makes no other row.
fn that_alter_rows(options: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let harmless = |name: &str| name == "schema" || (kafka::Config::has_option(name) && name != "isolation");
    options.iter().filter(|(name, _)| !harmless(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}
