//! Rows of a query: a table for people; JSON or CSV for programs, written as the rows come.

use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::writer::{JsonArray, WriterBuilder};
use clap::ValueEnum;

use super::cells;
use super::table::{Align, Table};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
    Csv,
}

/// Takes batches and prints them, some at once and some at the end.
pub enum Printer<W: Write> {
    Table { out: W, schema: SchemaRef, batches: Vec<RecordBatch>, width: Option<usize> },
    Json(Box<arrow::json::Writer<W, JsonArray>>),
    Csv { out: W, schema: SchemaRef },
}

impl<W: Write> Printer<W> {
    /// A table fits into `width` characters, if it is given.
    pub fn new(format: Format, schema: SchemaRef, width: Option<usize>, mut out: W) -> Result<Self, ArrowError> {
        Ok(match format {
            Format::Table => Self::Table { out, schema, batches: Vec::new(), width },
            Format::Json => {
                Self::Json(Box::new(WriterBuilder::new().with_explicit_nulls(true).build::<_, JsonArray>(out)))
            }
            Format::Csv => {
                let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                write_record(&mut out, names.into_iter().map(Some))?;
                Self::Csv { out, schema }
            }
        })
    }

    pub fn write(&mut self, batch: RecordBatch) -> Result<(), ArrowError> {
        match self {
            Self::Table { batches, .. } => batches.push(batch),
            Self::Json(writer) => writer.write(&text_keys(&batch)?)?,
            Self::Csv { out, schema } => {
                let fields = schema.fields().iter().zip(batch.columns());
                let columns: Vec<_> =
                    fields.map(|(field, column)| cells::plain(field, column)).collect::<Result<_, _>>()?;
                for i in 0..batch.num_rows() {
                    write_record(out, columns.iter().map(|column| column[i].as_deref()))?;
                }
            }
        }
        Ok(())
    }

    pub fn finish(self) -> Result<(), ArrowError> {
        let mut out = match self {
            Self::Table { mut out, schema, batches, width } => {
                out.write_all(table(&schema, &batches)?.render(width).as_bytes())?;
                out
            }
            Self::Json(mut writer) => {
                writer.finish()?;
                let mut out = writer.into_inner();
                out.write_all(b"\n")?;
                out
            }
            Self::Csv { out, .. } => out,
        };
        Ok(out.flush()?)
    }
}

fn text_keys(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = batch.schema();
    let pairs = schema.fields().iter().zip(batch.columns());
    let pairs: Vec<_> = pairs.map(|(field, column)| cells::for_json(field, column)).collect::<Result<_, _>>()?;
    let (fields, columns): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

/// NULL is an empty field, an empty text a quoted one.
fn write_record<'a>(out: &mut impl Write, values: impl Iterator<Item = Option<&'a str>>) -> io::Result<()> {
    for (i, value) in values.enumerate() {
        if i > 0 {
            out.write_all(b",")?;
        }
        match value {
            None => {}
            Some(text) if text.is_empty() || text.contains([',', '"', '\n', '\r']) => {
                write!(out, "\"{}\"", text.replace('"', "\"\""))?;
            }
            Some(text) => out.write_all(text.as_bytes())?,
        }
    }
    out.write_all(b"\n")
}

/// Longest text of a cell: more of a history tells a person nothing.
const MOST_CHARACTERS: usize = 400;

pub fn table(schema: &Schema, batches: &[RecordBatch]) -> Result<Table, ArrowError> {
    let align = |data_type: &DataType| if data_type.is_numeric() { Align::Right } else { Align::Left };
    let fields = schema.fields();
    let mut table = Table::new(fields.iter().map(|field| (field.name().clone(), align(field.data_type()))));
    for batch in batches {
        let pairs = fields.iter().zip(batch.columns());
        let columns: Vec<_> = pairs.map(|(field, column)| cells::shown(field, column)).collect::<Result<_, _>>()?;
        for i in 0..batch.num_rows() {
            table.row(columns.iter().map(|column| shortened(column[i].as_deref().unwrap_or("-"))));
        }
    }
    Ok(table)
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MOST_CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        ArrayRef, BinaryViewArray, Float32Array, Float64Array, Int32Builder, Int64Array, MapBuilder, StringArray,
        StringBuilder, StructArray,
    };
    use arrow::datatypes::Field;
    use serde_json::{Value, json};

    use super::*;

    fn batch() -> RecordBatch {
        let magpsf: ArrayRef = Arc::new(Float32Array::from(vec![Some(17.1), None]));
        let candidate = StructArray::from(vec![(Arc::new(Field::new("magpsf", DataType::Float32, true)), magpsf)]);
        let mut notes = MapBuilder::new(None, Int32Builder::new(), StringBuilder::new());
        notes.keys().append_value(3);
        notes.values().append_value("a, \"b\"");
        notes.append(true).unwrap();
        notes.append(false).unwrap();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("candid", Arc::new(Int64Array::from(vec![2_459_123_456_789_012_345, 2]))),
            ("objectId", Arc::new(StringArray::from(vec![Some("ZTF18abc"), None]))),
            ("jd", Arc::new(Float64Array::from(vec![2458849.6023958, 0.1]))),
            ("candidate", Arc::new(candidate)),
            ("notes", Arc::new(notes.finish())),
            ("cutout", Arc::new(BinaryViewArray::from_iter_values([vec![7u8; 3], vec![]]))),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    fn print(format: Format, batches: &[RecordBatch]) -> String {
        let mut out = Vec::new();
        let mut printer = Printer::new(format, batch().schema(), None, &mut out).unwrap();
        batches.iter().for_each(|batch| printer.write(batch.clone()).unwrap());
        printer.finish().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_is_one_array_with_exact_numbers_and_nulls() {
        let text = print(Format::Json, &[batch(), batch()]);
        let rows: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(rows.as_array().unwrap().len(), 4);
        let first = json!({ "candid": 2_459_123_456_789_012_345_i64, "objectId": "ZTF18abc", "jd": 2458849.6023958,
            "candidate": { "magpsf": 17.1 }, "notes": { "3": "a, \"b\"" }, "cutout": "070707" });
        assert_eq!(rows[0], first);
        assert_eq!((&rows[1]["objectId"], &rows[1]["candidate"]), (&Value::Null, &json!({ "magpsf": null })));
        assert!(rows[1].as_object().unwrap().contains_key("notes"));
        assert!(text.contains("\"magpsf\":17.1}"), "{text}");
    }

    #[test]
    fn without_rows_json_is_still_an_array() {
        assert_eq!(print(Format::Json, &[]), "[]\n");
    }

    #[test]
    fn csv_quotes_what_needs_it_and_keeps_null_apart() {
        let text = print(Format::Csv, &[batch()]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "candid,objectId,jd,candidate,notes,cutout");
        assert_eq!(
            lines[1],
            r#"2459123456789012345,ZTF18abc,2458849.6023958,"{""magpsf"":17.1}","{""3"":""a, \""b\""""}",070707"#
        );
        assert_eq!(lines[2], r#"2,,0.1,"{""magpsf"":null}",,"""#);
    }

    #[test]
    fn a_table_shows_the_size_of_bytes_and_a_dash_for_null() {
        let text = print(Format::Table, &[batch()]);
        assert!(text.contains("<3 bytes>"), "{text}");
        assert!(text.lines().last().is_some_and(|line| line.contains("  -  ")), "{text}");
    }
}
