//! Column paths: `objectId`, or `candidate.jd` for a field of a struct.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, make_array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Schema};

use super::Error;
use super::error::nearest;

/// The field that a path names. A top-level column whose own name has dots is found first.
pub(crate) fn field<'a>(schema: &'a Schema, path: &str, place: &str) -> Result<&'a FieldRef, Error> {
    if let Some((_, field)) = schema.fields().find(path) {
        return Ok(field);
    }
    let mut fields = schema.fields();
    let mut above = String::new();
    let mut names = path.split('.').peekable();
    while let Some(name) = names.next() {
        let Some((_, field)) = fields.find(name) else { return Err(missing(path, &above, name, fields, place)) };
        match (names.peek(), field.data_type()) {
            (None, _) => return Ok(field),
            (Some(_), DataType::Struct(inner)) => fields = inner,
            (Some(_), other) => {
                let reason = "has no fields: name the column alone".into();
                return Err(Error::Type { column: format!("{above}{name}"), data_type: other.to_string(), reason });
            }
        }
        above = format!("{above}{name}.");
    }
    Err(missing(path, "", path, schema.fields(), place))
}

fn missing(path: &str, above: &str, name: &str, fields: &arrow::datatypes::Fields, place: &str) -> Error {
    let remedy = nearest(name, fields.iter().map(|field| field.name().as_str()));
    let column = if above.is_empty() { path.to_string() } else { format!("{above}{name}") };
    Error::MissingColumn { column, place: place.into(), remedy }
}

/// The values under a path, null where a struct above them is null.
pub(crate) fn array(batch: &RecordBatch, path: &str, place: &str) -> Result<ArrayRef, Error> {
    field(batch.schema_ref(), path, place)?;
    if let Some(array) = batch.column_by_name(path) {
        return plain(array.clone());
    }
    let mut names = path.split('.');
    let mut array = names.next().and_then(|name| batch.column_by_name(name)).cloned();
    for name in names {
        array = array.and_then(|array| child(array.as_struct_opt()?, name));
    }
    plain(array.ok_or_else(|| missing(path, "", path, batch.schema_ref().fields(), place))?)
}

fn child(array: &arrow::array::StructArray, name: &str) -> Option<ArrayRef> {
    let child = array.column_by_name(name)?;
    let nulls = NullBuffer::union(array.nulls(), child.nulls());
    let data = child.to_data().into_builder().nulls(nulls).build().ok()?;
    Some(make_array(data))
}

/// Without dictionaries: their values alone.
fn plain(array: ArrayRef) -> Result<ArrayRef, Error> {
    match array.data_type() {
        DataType::Dictionary(_, values) => Ok(arrow::compute::cast(&array, values)?),
        _ => Ok(array),
    }
}

/// A nullable field of the same name, its dictionary taken off.
pub(crate) fn plain_field(field: &Field) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Dictionary(_, values) => values.as_ref().clone(),
        other => other.clone(),
    };
    Arc::new(Field::new(field.name(), data_type, true))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, StructArray};
    use arrow::datatypes::Fields;

    use super::*;

    fn batch() -> RecordBatch {
        let fields = Fields::from(vec![Field::new("jd", DataType::Float64, true)]);
        let jd: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.0), Some(2.0), None]));
        let candidate = StructArray::new(fields, vec![jd], Some(NullBuffer::from(vec![true, false, true])));
        RecordBatch::try_from_iter([("candidate", Arc::new(candidate) as ArrayRef)]).unwrap()
    }

    #[test]
    fn a_field_of_a_null_struct_is_null() {
        let jd = array(&batch(), "candidate.jd", "row key").unwrap();
        assert_eq!((0..3).map(|i| jd.is_null(i)).collect::<Vec<_>>(), [false, true, true]);
    }

    #[test]
    fn a_misspelt_field_is_answered_with_the_nearest_name() {
        let error = array(&batch(), "candidate.jdd", "row key").unwrap_err();
        assert_eq!(error.to_string(), "column 'candidate.jdd' of row key is unknown; did you mean 'jd'?");
    }
}
