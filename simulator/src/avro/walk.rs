//! Where the fields of a datum lie.

use std::ops::Range;

use super::Error;
use super::Result;
use super::schema::{Record, Type};
use super::wire::Reader;

/// The bytes of one field, with the union's branch number if it has one, and their type.
#[derive(Debug, Clone)]
pub struct Span<'s> {
    pub range: Range<usize>,
    pub ty: &'s Type,
}

/// Finds the fields at dotted `paths` (`candidate.rb`) of one datum and how long the datum is. A path through a null
/// record, or that the schema lacks, is `None`.
pub fn find<'s>(record: &'s Record, datum: &[u8], paths: &[&str]) -> Result<(Vec<Option<Span<'s>>>, usize)> {
    let mut walk = Walk { reader: Reader::new(datum), spans: vec![None; paths.len()] };
    walk.fields(record, &paths.iter().copied().enumerate().collect::<Vec<_>>())?;
    Ok((walk.spans, walk.reader.at()))
}

struct Walk<'s, 'd> {
    reader: Reader<'d>,
    spans: Vec<Option<Span<'s>>>,
}

impl<'s> Walk<'s, '_> {
    fn fields(&mut self, record: &'s Record, wanted: &[(usize, &str)]) -> Result<()> {
        for field in &record.fields {
            let start = self.reader.at();
            let inside: Vec<_> = wanted
                .iter()
                .filter_map(|(slot, path)| Some((*slot, path.strip_prefix(field.name.as_str())?.strip_prefix('.')?)))
                .collect();
            self.value(&field.ty, &inside)?;
            for (slot, _) in wanted.iter().filter(|(_, path)| *path == field.name) {
                self.spans[*slot] = Some(Span { range: start..self.reader.at(), ty: &field.ty });
            }
        }
        Ok(())
    }

    fn value(&mut self, ty: &'s Type, wanted: &[(usize, &str)]) -> Result<()> {
        match ty {
            Type::Record(record) if !wanted.is_empty() => self.fields(record, wanted),
            Type::Union(branches) if !wanted.is_empty() => {
                let ty = branch(&mut self.reader, branches)?;
                self.value(ty, wanted)
            }
            _ => skip(&mut self.reader, ty),
        }
    }
}

fn branch<'s>(reader: &mut Reader, branches: &'s [Type]) -> Result<&'s Type> {
    let at = reader.at();
    branches.get(reader.length()?).ok_or(Error::Malformed { at })
}

fn skip(reader: &mut Reader, ty: &Type) -> Result<()> {
    match ty {
        Type::Null => Ok(()),
        Type::Boolean => reader.take(1).map(drop),
        Type::Int | Type::Long | Type::Enum => reader.long().map(drop),
        Type::Float => reader.take(4).map(drop),
        Type::Double => reader.take(8).map(drop),
        Type::Bytes | Type::String => reader.bytes().map(drop),
        Type::Fixed(n_bytes) => reader.take(*n_bytes).map(drop),
        Type::Array(items) => blocks(reader, |reader| skip(reader, items)),
        Type::Map(values) => blocks(reader, |reader| {
            reader.bytes()?;
            skip(reader, values)
        }),
        Type::Union(branches) => {
            let ty = branch(reader, branches)?;
            skip(reader, ty)
        }
        Type::Record(record) => record.fields.iter().try_for_each(|field| skip(reader, &field.ty)),
    }
}

/// Items come in counted blocks until an empty one; a negative count is followed by the block's size in bytes.
fn blocks(reader: &mut Reader, mut item: impl FnMut(&mut Reader) -> Result<()>) -> Result<()> {
    loop {
        match reader.long()? {
            0 => return Ok(()),
            count if count < 0 => {
                let n_bytes = reader.length()?;
                reader.take(n_bytes)?;
            }
            count => (0..count).try_for_each(|_| item(reader))?,
        }
    }
}
