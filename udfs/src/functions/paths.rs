//! Dots that reach into lists: `prv_candidates.magpsf` is the list of that field, as in Spark.
//!
//! DataFusion plans `a.b` for structs only. [`StructPaths`] is asked first: as long as the path meets structs it does
//! the same, and at a list of structs it goes on with `list_field`.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::{Column, DFSchema, Result, ScalarValue, TableReference};
use datafusion::functions::core::expr_fn::get_field;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawFieldAccessExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, GetFieldAccess, ScalarUDF, lit};

use super::list_field::ListField;
use super::lists::{item_of, list_of};

/// Plans `column.field.field`. Comes before the default planners, which would take any path for one of structs:
/// `SessionStateBuilder::with_expr_planners(vec![Arc::new(StructPaths)])` before `with_default_features()`.
#[derive(Debug)]
pub struct StructPaths;

impl ExprPlanner for StructPaths {
    fn plan_compound_identifier(
        &self,
        field: &Field,
        qualifier: Option<&TableReference>,
        names: &[String],
    ) -> Result<PlannerResult<Vec<Expr>>> {
        let mut expr = Expr::Column(Column::from((qualifier, field)));
        let mut data_type = Some(field.data_type().clone());
        for name in names {
            let inner = |fields: &Fields| fields.find(name).map(|(_, field)| field.data_type().clone());
            let reached = data_type.as_ref().map(|data_type| (data_type, item_of(data_type)));
            // A name that is not there is planned all the same: the function then says what is wrong with it.
            (expr, data_type) = match reached {
                Some((_, Some(DataType::Struct(fields)))) => {
                    let list_field = Arc::new(ScalarUDF::from(ListField::default()));
                    (list_field.call(vec![expr, lit(name.as_str())]), inner(fields).map(list_of))
                }
                Some((DataType::Struct(fields), _)) => (get_field(expr, name.as_str()), inner(fields)),
                _ => (get_field(expr, name.as_str()), None),
            };
        }
        Ok(PlannerResult::Planned(expr))
    }

    /// The same of what a function gives: `crossmatch_all(…).source_id`.
    fn plan_field_access(
        &self,
        access: RawFieldAccessExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawFieldAccessExpr>> {
        let of_list = |expr: &Expr| {
            let data_type = expr.get_type(schema).ok();
            data_type.is_some_and(|data_type| matches!(item_of(&data_type), Some(DataType::Struct(_))))
        };
        match &access.field_access {
            GetFieldAccess::NamedStructField { name: ScalarValue::Utf8(Some(name)) } if of_list(&access.expr) => {
                let list_field = Arc::new(ScalarUDF::from(ListField::default()));
                Ok(PlannerResult::Planned(list_field.call(vec![access.expr.clone(), lit(name.as_str())])))
            }
            _ => Ok(PlannerResult::Original(access)),
        }
    }
}
