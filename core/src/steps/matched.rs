//! `Match`: looks the rows that want it up in a catalogue of the sky.
//!
//! The catalogue is not a second input: each executor reads what is near the alerts of a batch, at the version that the
//! plan names, so that an epoch stays one stage and a re-run gives the same rows. A row without a position has no
//! match, and one whose position errs has a note besides; a catalogue that cannot be read fails the attempt.

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, Float64Array, RecordBatch, new_empty_array};
use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef};
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr_common::physical_expr::fmt_sql;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use super::evaluate::{Erred, evaluate};
use super::mask::{mask_of, scatter, select};
use super::notes::add_notes;
use super::{Parts, Step, StepContext, failed, internal};
use crate::catalog::{Catalog, Cone};

/// One look-up of a view.
#[derive(Debug, Clone)]
pub struct Match {
    params: Params,
    /// Right ascension and declination, degrees.
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    schema: SchemaRef,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    catalog: Catalog,
    cone: Cone,
    /// Name of the column that the matches become.
    column: String,
    mask: Option<String>,
}

impl Match {
    /// Looks up the rows of `mask`, a column of `input`. `position` is right ascension and declination in degrees, both
    /// doubles; `returns` is what [`Cone::returns`] makes of the columns that are wanted.
    pub fn new(
        catalog: Catalog,
        cone: Cone,
        position: [Arc<dyn PhysicalExpr>; 2],
        (column, returns): (&str, DataType),
        mask: Option<String>,
        input: &SchemaRef,
    ) -> Self {
        let value = Arc::new(Field::new(column, returns, true));
        let schema = Arc::new(Schema::new(input.fields().iter().cloned().chain([value]).collect::<Vec<_>>()));
        let params = Params { catalog, cone, column: column.to_owned(), mask };
        Self { params, exprs: position.into(), schema }
    }

    pub(super) fn from_parts(parts: &Parts) -> Result<Self> {
        let params = serde_json::from_str(&parts.params).map_err(|error| internal(error.to_string()))?;
        let schema = parts.schemas.first().ok_or_else(|| internal("Match has a schema"))?.clone();
        Ok(Self { params, exprs: parts.exprs.clone(), schema })
    }

    async fn look_up(&self, batch: &RecordBatch, context: &StepContext) -> Result<RecordBatch> {
        let wanted = mask_of(batch, self.params.mask.as_deref())?;
        let chosen = select(batch, &wanted)?;
        let returns = self.schema.field_with_name(&self.params.column)?.data_type();
        let Params { catalog, cone, .. } = &self.params;
        let mut erred = Erred::new();
        let found = match chosen.num_rows() {
            0 => new_empty_array(returns),
            _ => {
                let mut angle = |i| self.angle(i, &chosen, &wanted, &mut erred);
                let (ra, dec) = (angle(0)?, angle(1)?);
                context.runtime.crossmatch(catalog, *cone, returns, &ra, &dec).await.map_err(failed)?
            }
        };
        let mut columns = batch.columns().to_vec();
        add_notes(batch, &mut columns, &catalog.spec.name, &erred)?;
        columns.push(scatter(&found, &wanted)?);
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }

    /// Null where it errs.
    fn angle(&self, i: usize, rows: &RecordBatch, of: &BooleanArray, erred: &mut Erred) -> Result<Float64Array> {
        let expr = self.exprs.get(i).ok_or_else(|| internal("Match has a position"))?;
        let computed = evaluate(expr, rows)?;
        erred.extend(computed.erred_in(of, fmt_sql(expr.as_ref())));
        let angles = computed.values.as_primitive_opt::<Float64Type>();
        Ok(angles.ok_or_else(|| internal("a position is of doubles"))?.clone())
    }
}

impl Step for Match {
    fn name(&self) -> &'static str {
        "Match"
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn describe(&self) -> String {
        let Params { catalog, cone, mask, .. } = &self.params;
        let position: Vec<_> = self.exprs.iter().map(ToString::to_string).collect();
        let which = if cone.all { "all" } else { "nearest" };
        let (radius, mask) = (cone.radius, mask.as_deref().unwrap_or("all rows"));
        format!(
            "{}({}) {which} within {radius}\" on={mask} lock={}",
            catalog.spec.name,
            position.join(", "),
            catalog.lock
        )
    }

    fn parts(&self) -> Result<Parts> {
        let params = serde_json::to_string(&self.params).map_err(|error| internal(error.to_string()))?;
        Ok(Parts { params, exprs: self.exprs.clone(), schemas: vec![self.schema.clone()] })
    }

    fn run(&self, mut input: SendableRecordBatchStream, context: StepContext) -> Result<SendableRecordBatchStream> {
        let step = self.clone();
        let schema = self.schema.clone();
        let batches = async_stream::try_stream! {
            while let Some(batch) = input.try_next().await? {
                yield step.look_up(&batch, &context).await?;
            }
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches.boxed())))
    }
}
