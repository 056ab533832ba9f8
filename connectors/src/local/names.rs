//! The columns of a table, by number: rows name a column once per table, not once per row.

use std::collections::HashMap;

use crate::widecolumn::Column;

/// Numbers are given in the order in which columns are first put, and never change.
#[derive(Debug, Default)]
pub(super) struct Names {
    columns: Vec<Column>,
    numbers: HashMap<Column, u32>,
}

impl Names {
    pub fn number(&self, column: &Column) -> Option<u32> {
        self.numbers.get(column).copied()
    }

    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Gives the next number to a column that has none.
    pub fn add(&mut self, column: Column) -> u32 {
        let number = self.columns.len() as u32;
        self.numbers.insert(column.clone(), number);
        self.columns.push(column);
        number
    }
}

/// The entry that keeps a column's number: table, number → family, qualifier.
pub(super) fn entry(table: &str, number: u32, column: &Column) -> (Vec<u8>, Vec<u8>) {
    let key = [prefix(table).as_slice(), &number.to_be_bytes()].concat();
    (key, [column.family.as_bytes(), &[0], column.qualifier.as_bytes()].concat())
}

/// The beginning of all entries of a table. No table's name has a zero byte in it.
pub(super) fn prefix(table: &str) -> Vec<u8> {
    [table.as_bytes(), &[0]].concat()
}

/// The column that an entry's value names.
pub(super) fn column(value: &[u8]) -> Option<Column> {
    let (family, qualifier) = std::str::from_utf8(value).ok()?.split_once('\0')?;
    Some(Column { family: family.into(), qualifier: qualifier.into() })
}
