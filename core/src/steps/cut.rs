//! `Cut`: a view's `WHERE`, conjunct by conjunct, so that the ledger can say which rule a row fell to.
//!
//! The first conjunct in text order that is not true decides: false is *cut*, NULL is *unknown*. Later conjuncts see
//! only the rows that are still in. Rows on which a module failed that sets them aside are *withheld*. Rows are not
//! removed: the view becomes a mask column.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{and, not};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use super::evaluate::{Erred, evaluate};
use super::mask::{all_but, mask_column, mask_of, scatter, select, view_of, without};
use super::notes::add_notes;
use super::refusals::Withheld;
use super::split_run::hashes;
use super::{Parts, Step, StepContext, failed, internal};
use crate::digest::Digest;
use crate::ledger::ViewCounts;

/// The rules of one view.
#[derive(Debug, Clone)]
pub struct Cut {
    params: Params,
    rules: Vec<Arc<dyn PhysicalExpr>>,
    schema: SchemaRef,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    /// Place of the view among the views of the pipeline.
    index: usize,
    view: String,
    from: String,
    /// Mask column of the view that this one reads; none if it reads the source.
    mask: Option<String>,
    /// Text of each rule.
    texts: Vec<String>,
    /// Columns that say of which rows something is missing that a rule asks for.
    withheld_by: Vec<String>,
}

impl Cut {
    /// `rules` are conjuncts over `input` with their text; `mask` is the view that this view reads, if that one cuts.
    pub fn new(
        index: usize,
        view: &str,
        from: &str,
        mask: Option<String>,
        rules: Vec<(String, Arc<dyn PhysicalExpr>)>,
        input: &SchemaRef,
    ) -> Self {
        let (texts, rules) = rules.into_iter().unzip();
        let withheld_by = Vec::new();
        let params = Params { index, view: view.to_owned(), from: from.to_owned(), mask, texts, withheld_by };
        Self { schema: with_masks(input, view), params, rules }
    }

    /// Leaves out the rows for which one of these columns is true: nobody knows whether they would be kept.
    pub fn withhold(mut self, columns: Vec<String>) -> Self {
        self.params.withheld_by = columns;
        self
    }

    pub(super) fn from_parts(parts: &Parts) -> Result<Self> {
        let params = serde_json::from_str(&parts.params).map_err(|error| internal(error.to_string()))?;
        let schema = parts.schemas.first().ok_or_else(|| internal("Cut has a schema"))?.clone();
        Ok(Self { params, rules: parts.exprs.clone(), schema })
    }
}

fn with_masks(input: &SchemaRef, view: &str) -> SchemaRef {
    let masks = [mask_column(view), Withheld::by_view(view).column];
    let masks = masks.map(|name| Arc::new(Field::new(name, DataType::Boolean, false)));
    Arc::new(Schema::new(input.fields().iter().cloned().chain(masks).collect::<Vec<_>>()))
}

impl Step for Cut {
    fn name(&self) -> &'static str {
        "Cut"
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn describe(&self) -> String {
        format!("view={} from={} rules=[{}]", self.params.view, self.params.from, self.params.texts.join("; "))
    }

    fn parts(&self) -> Result<Parts> {
        let params = serde_json::to_string(&self.params).map_err(|error| internal(error.to_string()))?;
        Ok(Parts { params, exprs: self.rules.clone(), schemas: vec![self.schema.clone()] })
    }

    fn run(&self, mut input: SendableRecordBatchStream, context: StepContext) -> Result<SendableRecordBatchStream> {
        let cut = self.clone();
        let schema = self.schema.clone();
        cut.report(&context, ViewCounts::default(), &[], &[]);
        let batches = async_stream::try_stream! {
            while let Some(batch) = input.try_next().await? {
                yield cut.apply(&batch, &context)?;
            }
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches.boxed())))
    }
}

impl Cut {
    fn apply(&self, batch: &RecordBatch, context: &StepContext) -> Result<RecordBatch> {
        let mut kept = mask_of(batch, self.params.mask.as_deref())?;
        let rows = kept.true_count();
        if let Some(clean) = without(batch, &self.params.withheld_by)? {
            kept = and(&kept, &clean)?;
        }
        let (mut cut, mut unknown, mut erred) = (Vec::new(), Vec::new(), Erred::new());
        let mut withheld = rows - kept.true_count();
        for (rule, text) in self.rules.iter().zip(&self.params.texts) {
            let computed = evaluate(rule, &select(batch, &kept)?)?;
            let errs = computed.erred.len();
            let (is_true, nulls) = decided(&computed.values)?;
            cut.push((is_true.len() - is_true.true_count() - nulls) as u64);
            unknown.push((nulls - errs) as u64);
            withheld += errs;
            erred.extend(computed.erred_in(&kept, text));
            let back: ArrayRef = scatter(&(Arc::new(is_true) as ArrayRef), &kept)?;
            kept = and(&kept, &without_nulls(back.as_boolean()))?;
        }
        let digest =
            Digest::of(hashes(batch)?.into_iter().zip(kept.values()).filter(|(_, kept)| *kept).map(|(hash, _)| hash));
        let (rows, n_kept) = (rows as u64, kept.true_count() as u64);
        let sums = ViewCounts { rows, kept: n_kept, withheld: withheld as u64, digest, ..ViewCounts::default() };
        self.report(context, sums, &cut, &unknown);
        self.with_masks(batch, kept, &erred)
    }

    fn with_masks(&self, batch: &RecordBatch, kept: BooleanArray, erred: &Erred) -> Result<RecordBatch> {
        let mut columns = batch.columns().to_vec();
        add_notes(batch, &mut columns, &Withheld::by_view(&self.params.view).name(), erred)?;
        let errs = not(&all_but(batch.num_rows(), erred))?;
        columns.extend([Arc::new(kept) as ArrayRef, Arc::new(errs)]);
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }

    fn report(&self, context: &StepContext, sums: ViewCounts, cut: &[u64], unknown: &[u64]) {
        let mut counts = context.run.counts();
        let view = counts.views.entry(self.params.index).or_insert_with(|| ViewCounts {
            view: self.params.view.clone(),
            from: self.params.from.clone(),
            root: self.params.mask.is_none(),
            parent: self.params.mask.as_deref().and_then(view_of).map(str::to_owned),
            ..ViewCounts::default()
        });
        view.rows += sums.rows;
        view.kept += sums.kept;
        view.withheld += sums.withheld;
        view.digest += sums.digest;
        for (text, n) in self.params.texts.iter().zip(cut).filter(|(_, n)| **n > 0) {
            *view.cut.entry(text.clone()).or_default() += n;
        }
        for (text, n) in self.params.texts.iter().zip(unknown).filter(|(_, n)| **n > 0) {
            *view.unknown.entry(text.clone()).or_default() += n;
        }
    }
}

/// Which rows are true, and how many are NULL.
fn decided(values: &ArrayRef) -> Result<(BooleanArray, usize)> {
    let values = values.as_boolean_opt().ok_or_else(|| failed("a rule of a WHERE is not a boolean"))?;
    Ok((without_nulls(values), values.null_count()))
}

fn without_nulls(values: &BooleanArray) -> BooleanArray {
    match values.nulls() {
        None => values.clone(),
        Some(nulls) => {
            let both: BooleanBuffer = values.values() & nulls.inner();
            BooleanArray::new(both, None)
        }
    }
}
