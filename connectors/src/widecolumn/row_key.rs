//! Row keys: a template such as `{objectId}_{candidate.jd}`, filled in from each row.
//!
//! Between braces stands a column (`a.b` reaches into a struct), then perhaps `:` with a fill character, `<` or `>` and
//! a width: `{pixel:0>6}` pads to the right edge with zeros, so that text order is number order. `{{` and `}}` are
//! braces. A salt is an ordinary column that the `SELECT` computes.
//!
//! Values stand as text: strings as they are, integers plainly, floating-point numbers as Python prints them (the
//! fewest digits that read back as the same number, `2458850.0`, `1e+16`, `1e-05`). A row with a null in its key has no
//! key.

mod text;

use std::collections::BTreeMap;
use std::fmt;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::Schema;
use bytes::Bytes;
use datafusion::scalar::ScalarValue;
use serde::{Deserialize, Serialize};

use super::{Error, columns};

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RowKey {
    template: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Column { path: String, pad: Option<Pad> },
}

/// Fills a text up to a width, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pad {
    fill: char,
    left: bool,
    width: usize,
}

/// Why a row has no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoKey {
    #[error("column '{column}' of the row key is null")]
    Null { column: String },
    #[error("its row key is empty")]
    Empty,
    #[error("its row key has {len} bytes, more than {MAX_KEY}")]
    Long { len: usize },
}

/// Bytes; the most that HBase takes, so that a table can move there.
pub const MAX_KEY: usize = 32_767;

impl RowKey {
    pub fn parse(template: &str) -> Result<RowKey, Error> {
        let error = |position: usize, reason: &str| Error::Template {
            template: template.into(),
            position: position + 1,
            reason: reason.into(),
        };
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut chars = template.chars().enumerate().peekable();
        while let Some((at, c)) = chars.next() {
            let doubled = matches!(chars.peek(), Some((_, next)) if *next == c);
            match c {
                '{' | '}' if doubled => {
                    chars.next();
                    literal.push(c);
                }
                '}' => return Err(error(at, "'}' closes no '{'; write '}}' for a brace")),
                '{' => {
                    let mut inside = String::new();
                    loop {
                        match chars.next() {
                            Some((_, '}')) => break,
                            Some((at, '{')) => return Err(error(at, "'{' inside a column; close the one before it")),
                            Some((_, c)) => inside.push(c),
                            None => return Err(error(at, "'{' is never closed; add '}'")),
                        }
                    }
                    if !literal.is_empty() {
                        parts.push(Part::Literal(std::mem::take(&mut literal)));
                    }
                    parts.push(Part::parse(&inside).map_err(|reason| error(at, reason))?);
                }
                _ => literal.push(c),
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        if !parts.iter().any(|part| matches!(part, Part::Column { .. })) {
            return Err(error(0, "names no column, so every row would have the same key; write '{COLUMN}'"));
        }
        Ok(RowKey { template: template.into(), parts })
    }

    /// The columns of the key, in its order.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Column { path, .. } => Some(path.as_str()),
            Part::Literal(_) => None,
        })
    }

    /// Whether rows of this schema can have the key: every column is there and has a text.
    pub fn check(&self, schema: &Schema) -> Result<(), Error> {
        for path in self.columns() {
            let field = columns::field(schema, path, &self.place())?;
            text::check(path, columns::plain_field(field).data_type())?;
        }
        Ok(())
    }

    /// The key of each row, in row order.
    pub fn render(&self, batch: &RecordBatch) -> Result<Vec<Result<Bytes, NoKey>>, Error> {
        let mut arrays = Vec::new();
        for path in self.columns() {
            arrays.push(columns::array(batch, path, &self.place())?);
        }
        let writers = arrays.iter().zip(self.columns()).map(|(array, path)| text::writer(path, array));
        let writers = writers.collect::<Result<Vec<_>, _>>()?;
        let mut keys = Vec::with_capacity(batch.num_rows());
        let mut key = String::new();
        for row in 0..batch.num_rows() {
            key.clear();
            keys.push(self.write(row, &arrays, &writers, &mut key).map(|()| Bytes::copy_from_slice(key.as_bytes())));
        }
        Ok(keys)
    }

    fn write(&self, row: usize, arrays: &[ArrayRef], texts: &[text::Writer], key: &mut String) -> Result<(), NoKey> {
        let mut n = 0;
        for part in &self.parts {
            match part {
                Part::Literal(text) => key.push_str(text),
                Part::Column { path, .. } if arrays[n].is_null(row) => {
                    return Err(NoKey::Null { column: path.clone() });
                }
                Part::Column { pad, .. } => {
                    let start = key.len();
                    texts[n](row, key);
                    pad.iter().for_each(|pad| pad.apply(key, start));
                    n += 1;
                }
            }
        }
        match key.len() {
            0 => Err(NoKey::Empty),
            1..=MAX_KEY => Ok(()),
            len => Err(NoKey::Long { len }),
        }
    }

    /// The longest beginning that all keys share whose columns have these values, and whether it is a whole key.
    pub(crate) fn prefix(&self, values: &BTreeMap<&str, &ScalarValue>) -> (String, bool) {
        let mut prefix = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => prefix.push_str(text),
                Part::Column { path, pad } => {
                    let Some(text) = values.get(path.as_str()).and_then(|value| text::of(path, value)) else {
                        return (prefix, false);
                    };
                    let start = prefix.len();
                    prefix.push_str(&text);
                    pad.iter().for_each(|pad| pad.apply(&mut prefix, start));
                }
            }
        }
        (prefix, true)
    }

    fn place(&self) -> String {
        format!("row key '{}'", self.template)
    }
}

impl Part {
    fn parse(inside: &str) -> Result<Part, &'static str> {
        let (path, format) = match inside.split_once(':') {
            Some((path, format)) => (path, Some(format)),
            None => (inside, None),
        };
        if path.is_empty() || path.split('.').any(str::is_empty) {
            return Err("'{}' names no column; write '{COLUMN}'");
        }
        Ok(Part::Column { path: path.into(), pad: format.map(Pad::parse).transpose()? })
    }
}

impl Pad {
    fn parse(format: &str) -> Result<Pad, &'static str> {
        let error = "a format is a fill character, '<' or '>', and a width, as in '{x:0>5}'";
        let mut chars = format.chars();
        let (Some(fill), Some(side)) = (chars.next(), chars.next()) else { return Err(error) };
        let width = chars.as_str().parse().ok().filter(|width| (1..=1000).contains(width)).ok_or(error)?;
        match side {
            '<' | '>' => Ok(Pad { fill, left: side == '<', width }),
            _ => Err(error),
        }
    }

    /// Pads what stands at `start..`.
    fn apply(&self, key: &mut String, start: usize) {
        let missing = self.width.saturating_sub(key[start..].chars().count());
        let filling = self.fill.to_string().repeat(missing);
        match self.left {
            true => key.push_str(&filling),
            false => key.insert_str(start, &filling),
        }
    }
}

impl fmt::Display for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.template)
    }
}

impl TryFrom<String> for RowKey {
    type Error = Error;

    fn try_from(template: String) -> Result<RowKey, Error> {
        RowKey::parse(&template)
    }
}

impl From<RowKey> for String {
    fn from(key: RowKey) -> String {
        key.template
    }
}

#[cfg(test)]
mod tests;
