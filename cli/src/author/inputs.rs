//! What a module's inputs are taken from, where its manifest does not say so.

use anyhow::{Result, bail};
use arrow::datatypes::{DataType, Field, Fields, SchemaRef};
use redpoll_udfs::manifest::{Input, Module};

/// The columns of a question that gives a module's arguments: the alert's name, whether the module's `where` holds, and
/// each input in order.
pub fn select_list(module: &Module, schema: &SchemaRef, id: Option<&str>) -> Result<String> {
    let id = id.map_or_else(|| "CAST(NULL AS BIGINT)".to_owned(), quoted);
    let gate = module.where_sql.as_ref().map_or_else(|| "true".to_owned(), |gate| format!("coalesce(({gate}), false)"));
    let mut columns = vec![format!("{id} AS _id"), format!("{gate} AS _wanted")];
    for (number, input) in module.inputs.iter().enumerate() {
        let expression = match &input.from {
            Some(from) => from.clone(),
            None => expression(input, schema)?,
        };
        columns.push(format!("({expression}) AS _{number}"));
    }
    Ok(columns.join(", "))
}

/// The column of the input's name, else the field of that name of the detection; for a list, the history with the
/// detection after it.
fn expression(input: &Input, schema: &SchemaRef) -> Result<String> {
    let name = &input.name;
    if schema.field_with_name(name).is_ok() {
        return Ok(quoted(name));
    }
    let is_list = matches!(input.sql_type.data_type(), DataType::List(_));
    let now = schema.fields().iter().find(|field| has(fields(field.data_type()), name));
    let now = now.map(|field| format!("{}.{}", quoted(field.name()), quoted(name)));
    let earlier = schema.fields().iter().find(|field| has(item_fields(field.data_type()), name));
    let earlier = earlier.map(|field| format!("{}.{}", quoted(field.name()), quoted(name)));
    match (is_list, earlier, now) {
        (true, Some(earlier), Some(now)) => Ok(format!("history({earlier}, {now})")),
        (true, Some(earlier), None) => Ok(earlier),
        (false, _, Some(now)) => Ok(now),
        _ => {
            let what = if is_list { "history" } else { "column" };
            let near = nearest(name, schema).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            bail!(
                "input `{name}`: the alerts have no {what} of that name{near} Say what it is taken from, \
                 `from = \"…\"` beside it in module.toml"
            )
        }
    }
}

fn has(fields: Option<&Fields>, name: &str) -> bool {
    fields.is_some_and(|fields| fields.iter().any(|field| field.name() == name))
}

fn fields(data_type: &DataType) -> Option<&Fields> {
    match data_type {
        DataType::Struct(fields) => Some(fields),
        _ => None,
    }
}

fn item_fields(data_type: &DataType) -> Option<&Fields> {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) => fields(item.data_type()),
        _ => None,
    }
}

/// The name of a column or of a field that a wrong one most probably means.
fn nearest(name: &str, schema: &SchemaRef) -> Option<String> {
    let inner = |field: &Field| {
        let of = |data_type: &DataType| fields(data_type).or_else(|| item_fields(data_type)).cloned();
        of(field.data_type()).unwrap_or_default().iter().map(|field| field.name().clone()).collect::<Vec<_>>()
    };
    let names: Vec<String> =
        schema.fields().iter().flat_map(|field| [vec![field.name().clone()], inner(field)].concat()).collect();
    redpoll_udfs::manifest::nearest_name(name, names.iter().map(String::as_str))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::Schema;

    use super::*;

    fn schema() -> SchemaRef {
        let detection = Fields::from(vec![
            Field::new("magpsf", DataType::Float32, true),
            Field::new("rb", DataType::Float32, true),
        ]);
        let earlier = Fields::from(vec![Field::new("magpsf", DataType::Float32, true)]);
        Arc::new(Schema::new(vec![
            Field::new("candid", DataType::Int64, true),
            Field::new("candidate", DataType::Struct(detection), true),
            Field::new_list("prv_candidates", Field::new_list_field(DataType::Struct(earlier), true), true),
        ]))
    }

    fn of(name: &str, kind: &str) -> Result<String> {
        let input = Input {
            name: name.into(),
            sql_type: kind.to_owned().try_into().unwrap(),
            from: None,
            optional: false,
            key: false,
        };
        expression(&input, &schema())
    }

    #[test]
    fn an_input_is_a_column_a_field_of_the_detection_or_a_history() {
        assert_eq!(of("candid", "bigint").unwrap(), "\"candid\"");
        assert_eq!(of("rb", "float").unwrap(), "\"candidate\".\"rb\"");
        let history = "history(\"prv_candidates\".\"magpsf\", \"candidate\".\"magpsf\")";
        assert_eq!(of("magpsf", "list<float>").unwrap(), history);
    }

    #[test]
    fn an_input_that_is_nowhere_is_told_its_nearest_and_the_remedy() {
        let error = of("magpfs", "float").unwrap_err().to_string();
        assert!(error.starts_with("input `magpfs`: the alerts have no column of that name; did you mean `magpsf`?"));
        let error = of("rb", "list<float>").unwrap_err().to_string();
        assert!(error.contains("no history") && error.contains("module.toml"), "{error}");
    }
}
