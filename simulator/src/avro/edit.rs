//! New values in a datum, all other bytes kept.

use super::cell::Cell;
use super::schema::Record;
use super::walk::find;
use super::{Error, Result};

/// One field to change: its dotted path and the new value.
pub type Edit<'a> = (&'a str, Cell<'a>);

/// The datum with the edits made. A path that the datum lacks, or a type that cannot hold its value, is an error.
pub fn edit(record: &Record, datum: &[u8], edits: &[Edit]) -> Result<Vec<u8>> {
    let paths: Vec<&str> = edits.iter().map(|(path, _)| *path).collect();
    let (spans, _) = find(record, datum, &paths)?;
    let mut found = Vec::with_capacity(edits.len());
    for (span, (path, cell)) in spans.into_iter().zip(edits) {
        found.push((span.ok_or_else(|| Error::NoField(path.to_string()))?, path, cell));
    }
    found.sort_by_key(|(span, ..)| span.range.start);

    let mut out = Vec::with_capacity(datum.len() + 16 * edits.len());
    let mut kept = 0;
    for (span, path, cell) in found {
        out.extend_from_slice(&datum[kept..span.range.start]);
        if !cell.put(span.ty, &mut out) {
            return Err(Error::Misfit { field: path.to_string(), value: format!("{cell:?}") });
        }
        kept = span.range.end;
    }
    out.extend_from_slice(&datum[kept..]);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::avro::schema;

    const SCHEMA: &str = r#"{"type":"record","name":"t","fields":[
        {"name":"id","type":"long"},
        {"name":"inner","type":["null",{"type":"record","name":"i","fields":[
            {"name":"history","type":{"type":"array","items":"string"}},
            {"name":"score","type":["float","null"]}]}]},
        {"name":"end","type":"boolean"}]}"#;
    // id 1; inner: branch 1, history ["a", "b"], score 0.0; end true
    const DATUM: [u8; 15] = [2, 2, 4, 2, b'a', 2, b'b', 0, 0, 0, 0, 0, 0, 1, 0xee];

    fn check(edits: &[Edit], expected: Result<&[u8], &str>) {
        let record = schema::parse(SCHEMA).unwrap();
        let found = edit(&record, &DATUM[..14], edits).map_err(|e| e.to_string());
        assert_eq!(found.as_deref().map_err(String::as_str), expected);
    }

    #[test]
    fn only_the_bytes_of_the_named_fields_change() {
        check(&[], Ok(&DATUM[..14]));
        let expected = [0x80, 1, 2, 4, 2, b'a', 2, b'b', 0, 2, 1];
        check(&[("inner.score", Cell::Null), ("id", Cell::Int(64))], Ok(&expected));
    }

    #[test]
    fn a_missing_field_and_a_value_that_does_not_fit_are_named() {
        check(&[("inner.rb", Cell::Null)], Err("the writer schema has no field inner.rb"));
        check(&[("id", Cell::Null)], Err("the field id cannot hold Null"));
    }

    #[test]
    fn the_length_of_a_datum_is_known_when_bytes_follow_it() {
        assert_eq!(find(&schema::parse(SCHEMA).unwrap(), &DATUM, &[]).unwrap().1, 14);
    }
}
