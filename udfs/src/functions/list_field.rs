//! `list_field(list, 'name')`: one field of every struct of a list, as a list of the same length.
//!
//! Spark writes it `prv_candidates.magpsf`; [`super::StructPaths`] plans that spelling as this function.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, make_array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::utils::datafusion_strsim::normalized_levenshtein;
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, internal_err, plan_datafusion_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::lists::{item_of, list_of};

const USAGE: &str = "usage: list_field(list of structs, 'name')";

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ListField {
    signature: Signature,
}

impl Default for ListField {
    fn default() -> Self {
        Self { signature: Signature::variadic_any(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for ListField {
    fn name(&self) -> &str {
        "list_field"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("the type of list_field depends on the name it is given")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let ([list, _], [_, name]) = (args.arg_fields, args.scalar_arguments) else {
            return plan_err!("list_field: {} arguments given, 2 wanted; {USAGE}", args.arg_fields.len());
        };
        let Some(DataType::Struct(fields)) = item_of(list.data_type()) else {
            return plan_err!("list_field: argument 1 is {}, not a list of structs; {USAGE}", list.data_type());
        };
        let name = name.and_then(|name| name.try_as_str().flatten());
        let name = name.ok_or_else(|| plan_datafusion_err!("list_field: argument 2 is no constant text; {USAGE}"))?;
        let Some((_, field)) = fields.find(name) else {
            return plan_err!("the structs of list '{}' have no field '{name}'{}", list.name(), nearest(fields, name));
        };
        Ok(Arc::new(Field::new(name, list_of(field.data_type().clone()), true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [list, ColumnarValue::Scalar(name)] = &args.args[..] else {
            return internal_err!("list_field was planned with a constant name");
        };
        let name = name.try_as_str().flatten().unwrap_or_default();
        let list = match (item_of(&list.data_type()), list.data_type()) {
            // A cast would copy what is only looked at.
            (_, DataType::List(_)) => list.clone(),
            (Some(item), _) => list.cast_to(&list_of(item.clone()), None)?,
            (None, other) => return internal_err!("list_field was planned for a list, not {other}"),
        };
        match list {
            ColumnarValue::Array(list) => Ok(ColumnarValue::Array(project(&list, name)?)),
            ColumnarValue::Scalar(list) => {
                let list = project(&list.to_array()?, name)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&list, 0)?))
            }
        }
    }
}

/// Shares the field's buffers with the list; an element that is a null struct becomes a null value.
fn project(list: &ArrayRef, name: &str) -> Result<ArrayRef> {
    let list =
        list.as_list_opt::<i32>().ok_or_else(|| exec_datafusion_err!("a list arrived as {}", list.data_type()))?;
    let structs = list.values().as_struct_opt();
    let values = structs.and_then(|structs| structs.column_by_name(name));
    let values = values.ok_or_else(|| exec_datafusion_err!("the structs of the list have no field '{name}'"))?;
    let nulls = NullBuffer::union(list.values().nulls(), values.nulls());
    let values = match list.values().nulls().is_some() {
        true => make_array(values.to_data().into_builder().nulls(nulls).build()?),
        false => Arc::clone(values),
    };
    let item = Arc::new(Field::new_list_field(values.data_type().clone(), true));
    Ok(Arc::new(ListArray::try_new(item, list.offsets().clone(), values, list.nulls().cloned())?))
}

/// `, did you mean 'x'?` for the field whose name is nearest.
pub(super) fn nearest(fields: &Fields, name: &str) -> String {
    let likeness = |field: &FieldRef| normalized_levenshtein(field.name(), name);
    let best = fields.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    best.map(|field| format!(", did you mean '{}'?", field.name())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::{check, refused};

    const HISTORY: &str = "[{jd: 1.0, fid: 1}, NULL, {jd: 3.0, fid: NULL}]";

    #[test]
    fn a_field_of_a_list_keeps_its_length() {
        check(&format!("list_field({HISTORY}, 'jd')"), "[1.0, NULL, 3.0]");
        check(&format!("list_field({HISTORY}, 'fid')"), "[1, NULL, NULL]");
        check(
            &format!("list_field(arrow_cast({HISTORY}, 'LargeList(Struct(\"jd\": Float32, \"fid\": Int64))'), 'jd')"),
            "[1.0, NULL, 3.0]",
        );
        check(&format!("list_field(CASE WHEN 1 > 2 THEN {HISTORY} END, 'jd')"), "NULL");
    }

    #[test]
    fn a_wrong_name_or_type_is_refused_when_the_query_is_planned() {
        refused(&format!("list_field({HISTORY}, 'jdd')"), "have no field 'jdd', did you mean 'jd'?");
        refused("list_field([1.0], 'jd')", "argument 1 is List(Float64), not a list of structs; usage: list_field(");
    }
}
