//! A whole chain over values on which expressions err: what is set aside, where, and that everything else goes on.

mod desk;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;

use super::*;
use crate::ids::{Epoch, SplitId};
use crate::ledger;
use crate::protocol::{Intent, JobPaths, Receipt, Split};
use crate::quarantine;
use crate::runtime::SourceSpec;
use crate::runtime::Version;
use crate::sink::{SinkKind, SinkSpec};
use crate::source::{FileRef, OffsetRange};
use desk::{Desk, alerts};

/// `n`, a text, and numbers.
const RECORDS: [&str; 7] = ["1|1|1:2", "0|2|3", "2|x|4:0", "5|4|5:0:6", "-7|7|1", "200|8|", "3|none|9"];

/// The expressions of the pipeline, as they err and as they are mended.
struct Pipeline {
    rule: &'static str,
    number: &'static str,
    piece: &'static str,
    argument: &'static str,
    gate: &'static str,
}

const SPOILT: Pipeline = Pipeline {
    rule: "10 / n >= 2",
    number: "CAST(text AS BIGINT)",
    piece: "12 / part > 0",
    argument: "100 / (n - 5)",
    gate: "7 / (n - 1) < 100",
};
const MENDED: Pipeline =
    Pipeline { rule: "10.0 / n >= 2", number: "n + 1", piece: "part >= 0", argument: "n * 100", gate: "n < 100" };

fn physical(sql: &str, schema: &SchemaRef) -> Arc<dyn PhysicalExpr> {
    let (context, schema) = (SessionContext::new(), DFSchema::try_from(schema.as_ref().clone()).unwrap());
    let expr = context.parse_sql_expr(sql, &schema).unwrap();
    context.create_physical_expr(expr, &schema).unwrap()
}

fn stage(predicate: Option<&str>, columns: &[(&str, &str)], unnest: &[usize], over: &SchemaRef) -> Stage {
    let column = |(name, sql): &(&str, &str)| {
        let expr = physical(sql, over);
        (Field::new(*name, expr.data_type(over).unwrap(), true), expr)
    };
    let predicate = predicate.map(|sql| physical(sql, over));
    Stage { predicate, columns: columns.iter().map(column).collect(), unnest: unnest.to_vec() }
}

fn output(name: &str, mask: Option<&str>, withheld_by: Vec<Withheld>, stages: Vec<Stage>) -> Output {
    let (url, partition_by, options) = (format!("memory:///{name}"), Vec::new(), BTreeMap::new());
    let sink = SinkSpec { name: name.into(), kind: SinkKind::Delta, url, partition_by, options };
    Output { sink, mask: mask.map(mask_column), withheld_by, stages }
}

impl Pipeline {
    /// The chain below the top, and the outputs.
    fn plan(&self, desk: &Arc<Desk>, split: &Split, batch_bytes: usize) -> (Arc<dyn ExecutionPlan>, Vec<Output>) {
        let source = SourceSpec { name: "alerts".into(), url: "memory:///".into(), options: BTreeMap::new() };
        let mut plan = split_table(std::slice::from_ref(split)).unwrap();
        plan = desk.node(Arc::new(Fetch { source: source.clone(), batch_bytes, run: run() }), plan);
        plan = desk.node(Arc::new(Decode::new(source, alerts(), alerts(), Epoch(0))), plan);
        let rules = ["n < 100", self.rule].map(|rule| (rule.to_owned(), physical(rule, &plan.schema())));
        let cut = Cut::new(0, "good", "alerts", None, rules.into(), &plan.schema());
        plan = desk.node(Arc::new(cut), plan);
        let rule = vec![("text <> 'none'".to_owned(), physical("text <> 'none'", &plan.schema()))];
        let cut = Cut::new(1, "named", "good", Some(mask_column("good")), rule, &plan.schema());
        plan = desk.node(Arc::new(cut), plan);
        let call = Call {
            version: Version { module: "twice".into(), lock: String::new(), bundles: None },
            shadow: None,
            column: "_module_0".into(),
            arguments: vec![("x".into(), physical(self.argument, &plan.schema()))],
            gate: Some(physical(self.gate, &plan.schema())),
            returns: DataType::Int64,
            sets_aside: false,
            batch_rows: 3,
            batch_bytes: 1 << 20,
        };
        let enrich = Enrich::new(call, None, &plan.schema());
        plan = desk.node(Arc::new(enrich), plan);
        let outputs = self.outputs(&plan.schema());
        (plan, outputs)
    }

    fn outputs(&self, over: &SchemaRef) -> Vec<Output> {
        let views = vec![Withheld::by_view("good"), Withheld::by_view("named")];
        let numbers = stage(None, &[("n", "n"), ("number", self.number)], &[], over);
        let unnested = stage(None, &[("n", "n"), ("part", "parts")], &[1], over);
        let pieces = Arc::new(Schema::new(unnested.output_fields()));
        let pieces = vec![unnested, stage(Some(self.piece), &[("n", "n"), ("part", "part")], &[], &pieces)];
        let scored = stage(None, &[("n", "n"), ("score", "_module_0")], &[], over);
        vec![
            output("raw", None, vec![], vec![stage(None, &[("n", "n")], &[], over)]),
            output("copy", Some("named"), views, vec![numbers]),
            output("pieces", None, vec![], pieces),
            output("scored", None, vec![Withheld::by_module("twice", "_module_0")], vec![scored]),
        ]
    }
}

fn run() -> EpochRun {
    EpochRun { job: "ztf".into(), warehouse: "memory:///".into(), ..EpochRun::default() }
}

fn split(id: u32) -> Split {
    let range = OffsetRange { topic: "ztf".into(), end: RECORDS.len() as i64, bytes: 100, ..OffsetRange::default() };
    Split { id: SplitId(id), ranges: vec![range] }
}

async fn rows(plan: Arc<dyn ExecutionPlan>) -> Result<Vec<RecordBatch>> {
    plan.execute(0, SessionContext::new().task_ctx())?.try_collect().await
}

/// Runs an attempt and reads its receipt.
async fn attempt(pipeline: &Pipeline, split: &Split, batch_bytes: usize) -> (Arc<Desk>, Receipt) {
    attempt_at(Arc::new(Desk::new(&RECORDS)), pipeline, split, batch_bytes).await
}

async fn attempt_at(desk: Arc<Desk>, pipeline: &Pipeline, split: &Split, batch_bytes: usize) -> (Arc<Desk>, Receipt) {
    let (plan, outputs) = pipeline.plan(&desk, split, batch_bytes);
    let done = rows(desk.node(Arc::new(FanOut::new(run(), outputs)), plan)).await.unwrap();
    let attempt = arrow::util::display::array_value_to_string(done[0].column(1), 0).unwrap();
    let path = paths().receipt(Epoch(0), split.id, &attempt);
    let receipt = serde_json::from_slice(&desk.object(&path).await).unwrap();
    (desk, receipt)
}

fn paths() -> JobPaths {
    JobPaths::new(&object_store::path::Path::default(), "ztf")
}

fn intent(split: Split) -> Intent {
    let (splits, modules) = (vec![split], BTreeMap::new());
    Intent { epoch: Epoch(0), revision: 0, clock: 0, seed: 0, splits, modules }
}

/// Stage, by, alert's offset, who lacks it, and why.
async fn items(desk: &Desk, receipt: &Receipt) -> Vec<(String, String, i64, String, String)> {
    let file = desk.object(&paths().quarantined(Epoch(0), receipt.split, &receipt.attempt)).await;
    let texts = |batch: &RecordBatch, row: usize, name: &str| {
        arrow::util::display::array_value_to_string(batch.column_by_name(name).unwrap(), row).unwrap()
    };
    let of = |batch: &RecordBatch| {
        let item = |row| {
            let [stage, by, offset, lacking, error] =
                ["stage", "by", "offset", "lacking", "error"].map(|name| texts(batch, row, name));
            (stage, by, offset.parse().unwrap(), lacking, error)
        };
        (0..batch.num_rows()).map(item).collect::<Vec<_>>()
    };
    quarantine::decode(file).unwrap().iter().flat_map(of).collect()
}

#[tokio::test]
async fn a_value_on_which_an_expression_errs_costs_its_alert_where_it_is_asked_for_and_nothing_else() {
    let (desk, receipt) = attempt(&SPOILT, &split(0), 1 << 20).await;
    assert_eq!(desk.written("raw"), ["1", "0", "2", "5", "-7", "200", "3"]);
    assert_eq!(desk.written("copy"), ["1,1", "5,4"]);
    // Of an alert that became several rows all are left out.
    assert_eq!(desk.written("pieces"), ["1,1", "1,2", "0,3", "-7,1", "3,9"]);
    assert_eq!(desk.written("scored"), ["0,-40", "2,-66", "-7,-16", "200,0", "3,-100"]);

    let good = &receipt.views[0];
    assert_eq!((good.rows, good.kept, good.withheld), (7, 4, 1));
    assert_eq!(good.cut, [("n < 100".to_owned(), 1), (SPOILT.rule.to_owned(), 1)].into());
    assert_eq!((receipt.views[1].rows, receipt.views[1].kept, receipt.views[1].withheld), (4, 3, 0));
    assert_eq!(receipt.withheld, [("view good".to_owned(), 1), ("twice".to_owned(), 2)].into());
    let refused = receipt.sinks.iter().map(|(name, sink)| (name.as_str(), sink.refused)).collect::<Vec<_>>();
    assert_eq!(refused, [("copy", 1), ("pieces", 2), ("raw", 0), ("scored", 0)]);
    assert_eq!(receipt.failures, BTreeMap::new(), "the module failed on nothing");
    let line = ledger::balance(&intent(split(0)), std::slice::from_ref(&receipt)).unwrap();
    assert_eq!((receipt.set_aside, line.set_aside()), (Some(6), 6));

    let mut items = items(&desk, &receipt).await;
    items.sort();
    let places: Vec<_> =
        items.iter().map(|(stage, by, offset, lacking, _)| (&**stage, &**by, *offset, &**lacking)).collect();
    let expected = [
        ("module", "twice", 0, "[scored]"),
        ("module", "twice", 3, "[scored]"),
        ("sink", "copy", 2, "[copy]"),
        ("sink", "pieces", 2, "[pieces]"),
        ("sink", "pieces", 3, "[pieces]"),
        ("view", "good", 1, "[copy]"),
    ];
    assert_eq!(places, expected);
    let errors: Vec<_> = items.iter().map(|(.., error)| error.as_str()).collect();
    assert!(errors[0].starts_with("twice: where 7 / ") && errors[0].ends_with("Divide by zero error"), "{}", errors[0]);
    assert!(errors[1].starts_with("twice: argument x, 100 / "), "{}", errors[1]);
    assert!(errors[2].starts_with("column number, CAST(text AS") && errors[2].contains("'x'"), "{}", errors[2]);
    assert!(errors[3].starts_with("WHERE ") && errors[3].contains("part"), "{}", errors[3]);
    assert_eq!(errors[5], "view good: 10 / n >= 2: Divide by zero error");
}

#[tokio::test]
async fn which_rows_err_does_not_depend_on_batches_and_an_audit_finds_the_same() {
    let (_, whole) = attempt(&SPOILT, &split(0), 1 << 20).await;
    let (desk, single) = attempt(&SPOILT, &split(0), 1).await;
    assert_eq!((&whole.views, &whole.withheld, whole.set_aside), (&single.views, &single.withheld, single.set_aside));
    assert_eq!(whole.sinks, single.sinks);

    let (plan, outputs) = SPOILT.plan(&desk, &split(0), 1 << 20);
    let audit = rows(desk.node(Arc::new(Identify::new(run(), outputs, None)), plan)).await.unwrap();
    let (mut selected, mut sums) = (Vec::new(), Vec::new());
    for batch in &audit {
        let (rows, splits) = Identified::read(batch).unwrap();
        selected.extend(rows);
        sums.extend(splits);
    }
    assert_eq!((sums.len(), &sums[0].views), (1, &whole.views));
    let places: BTreeSet<i64> = sums[0].quarantined.iter().map(|item| item.offset).collect();
    assert_eq!(places, [1, 2, 3].into(), "but for what a module lacks");
    for (index, name) in ["raw", "copy", "pieces", "scored"].into_iter().enumerate() {
        let hashes = selected.iter().filter(|row| row.output == index).map(|row| row.hash);
        assert_eq!(crate::digest::Digest::of(hashes), whole.sinks[name].written, "{name}");
    }
}

#[tokio::test]
async fn what_was_set_aside_goes_to_those_that_lack_it_once_the_expressions_are_mended() {
    let (desk, first) = attempt(&SPOILT, &split(0), 1 << 20).await;
    let set_aside = items(&desk, &first).await;
    let mut of_record: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    for (row, (_, _, offset, ..)) in set_aside.iter().enumerate() {
        of_record.entry(*offset).or_default().push(row.to_string());
    }
    let file = |rows: &Vec<String>| FileRef {
        name: format!("0/0/{}/{}", first.attempt, rows.join(",")),
        size: 1,
        etag: None,
        at: None,
    };
    let files: Vec<FileRef> = of_record.values().map(file).collect();
    let (topic, end) = (quarantine::TOPIC.to_owned(), files.len() as i64);
    let ranges = vec![OffsetRange { topic, end, files, ..OffsetRange::default() }];
    let again = Split { id: SplitId(1), ranges };

    // Not mended, it fails again, and no more than that.
    let (desk, failed) = attempt_at(desk, &SPOILT, &again, 1 << 20).await;
    let places = |items: Vec<(String, String, i64, String, String)>| {
        items.into_iter().map(|(stage, by, offset, lacking, _)| (stage, by, offset, lacking)).collect::<BTreeSet<_>>()
    };
    assert_eq!(places(items(&desk, &failed).await), places(set_aside));
    assert_eq!(failed.sinks.values().map(|sink| sink.rows).sum::<u64>(), 0);
    ledger::balance(&intent(again.clone()), &[failed]).unwrap();

    desk.forget();
    let (desk, mended) = attempt_at(desk, &MENDED, &again, 1 << 20).await;
    assert_eq!(desk.written("raw"), [""; 0]);
    assert_eq!(desk.written("copy"), ["0,1", "2,3"]);
    assert_eq!(desk.written("pieces"), ["2,4", "2,0", "5,5", "5,0", "5,6"]);
    assert_eq!(desk.written("scored"), ["1,200", "5,1000"]);
    assert_eq!(mended.set_aside, Some(0));
    ledger::balance(&intent(again), &[mended]).unwrap();
}
