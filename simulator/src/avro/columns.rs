//! Rows written under a record type, one closure per field.
//!
//! The fields of a schema are matched to closures by name once; a row then costs one call per field. A schema with
//! a field that nobody fills is an error when the columns are made, never while alerts flow.

use super::cell::Cell;
use super::schema::{Record, Type};
use super::wire::put_long;
use super::{Error, Result};

/// Gives the value of one field of a row.
pub type Column<R> = Box<dyn for<'a> Fn(&'a R) -> Cell<'a> + Send>;

/// A closure as a column. Passing it through here lets the compiler infer its lifetimes.
pub fn column<R>(value: impl for<'a> Fn(&'a R) -> Cell<'a> + Send + 'static) -> Column<R> {
    Box::new(value)
}

/// The columns of a record, of an array of records, or of a union with null of either.
pub struct Columns<R> {
    /// Of a union: which branch has the record.
    branch: Option<i64>,
    fields: Vec<(String, Type, Column<R>)>,
}

impl<R> Columns<R> {
    /// Matches the fields of the record in `ty` to what `find` gives for their names.
    pub fn new(ty: &Type, find: impl Fn(&str) -> Option<Column<R>>) -> Result<Self> {
        let (branch, record) = record_of(ty).ok_or(Error::NotARecord)?;
        let mut fields = Vec::with_capacity(record.fields.len());
        for field in &record.fields {
            let column = find(&field.name).ok_or_else(|| Error::NoField(field.name.clone()))?;
            fields.push((field.name.clone(), field.ty.clone(), column));
        }
        Ok(Self { branch, fields })
    }

    pub fn put_record(&self, row: &R, out: &mut Vec<u8>) -> Result<()> {
        self.put_branch(out);
        self.put_row(row, out)
    }

    pub fn put_array(&self, rows: &[R], out: &mut Vec<u8>) -> Result<()> {
        self.put_branch(out);
        if !rows.is_empty() {
            put_long(rows.len() as i64, out);
            rows.iter().try_for_each(|row| self.put_row(row, out))?;
        }
        put_long(0, out);
        Ok(())
    }

    fn put_branch(&self, out: &mut Vec<u8>) {
        if let Some(branch) = self.branch {
            put_long(branch, out);
        }
    }

    fn put_row(&self, row: &R, out: &mut Vec<u8>) -> Result<()> {
        for (name, ty, column) in &self.fields {
            let cell = column(row);
            if !cell.put(ty, out) {
                return Err(Error::Misfit { field: name.clone(), value: format!("{cell:?}") });
            }
        }
        Ok(())
    }
}

/// The record inside a type, and the number of the union's branch it is in.
fn record_of(ty: &Type) -> Option<(Option<i64>, &Record)> {
    match ty {
        Type::Record(record) => Some((None, record)),
        Type::Array(items) => record_of(items),
        Type::Union(branches) => branches
            .iter()
            .enumerate()
            .find_map(|(branch, ty)| record_of(ty).map(|(_, record)| (Some(branch as i64), record))),
        _ => None,
    }
}
