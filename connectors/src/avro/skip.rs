//! Passes over values that nobody asked for.
//!
//! Most of an alert's fields are numbers that may be null, so a record is a flat list of steps in which neighbours of
//! fixed size are one. Nested types are looked up by their index, which also makes recursive types possible.

use super::cursor::{Cursor, Read, Reason};
use super::schema::{Id, Schema, Type};

/// No honest value nests deeper. The limit keeps recursive types off the stack.
const MAX_DEPTH: usize = 64;

/// For each type of a writer's schema, how to pass over its values.
#[derive(Debug)]
pub(super) struct Skips {
    types: Vec<Skip>,
}

#[derive(Debug, Clone)]
enum Skip {
    Bytes(usize),
    Varint,
    /// A length and so many bytes.
    Counted,
    /// What follows unless the branch is null, which is written as this byte.
    Nullable(u8, Id),
    Union(Box<[Id]>),
    Array(Id),
    Map(Id),
    Record(Box<[Step]>),
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Bytes(usize),
    Varint,
    Counted,
    NullableBytes(u8, usize),
    NullableVarint(u8),
    Nested(Id),
}

impl Skips {
    pub fn new(schema: &Schema) -> Skips {
        let shallow: Vec<_> = schema.types().iter().map(|of| skip(schema, of)).collect();
        let types = schema.types().iter().zip(&shallow).map(|(of, skip)| match of {
            Type::Record(fields) => Skip::Record(steps(&shallow, fields.iter().map(|field| field.id))),
            _ => skip.clone(),
        });
        Skips { types: types.collect() }
    }

    pub fn pass(&self, id: Id, cursor: &mut Cursor<'_>) -> Read<()> {
        self.pass_nested(id, cursor, 0)
    }

    fn pass_nested(&self, id: Id, cursor: &mut Cursor<'_>, depth: usize) -> Read<()> {
        if depth > MAX_DEPTH {
            return Err(Reason::Depth.into());
        }
        match &self.types[id] {
            Skip::Bytes(n) => drop(cursor.fixed(*n)?),
            Skip::Varint => drop(cursor.long()?),
            Skip::Counted => drop(cursor.bytes()?),
            Skip::Nullable(null, value) => {
                if !cursor.is_null(*null)? {
                    self.pass_nested(*value, cursor, depth + 1)?;
                }
            }
            Skip::Union(branches) => {
                let branch = cursor.long()?;
                let id = usize::try_from(branch).ok().and_then(|i| branches.get(i)).ok_or(Reason::Branch(branch))?;
                self.pass_nested(*id, cursor, depth + 1)?;
            }
            Skip::Array(items) => pass_blocks(cursor, |cursor| self.pass_nested(*items, cursor, depth + 1))?,
            Skip::Map(values) => pass_blocks(cursor, |cursor| {
                cursor.bytes()?;
                self.pass_nested(*values, cursor, depth + 1)
            })?,
            Skip::Record(steps) => {
                cursor.spend(1, steps.len())?;
                for step in steps {
                    self.pass_step(*step, cursor, depth)?;
                }
            }
        }
        Ok(())
    }

    #[inline]
    fn pass_step(&self, step: Step, cursor: &mut Cursor<'_>, depth: usize) -> Read<()> {
        match step {
            Step::Bytes(n) => drop(cursor.fixed(n)?),
            Step::Varint => drop(cursor.long()?),
            Step::Counted => drop(cursor.bytes()?),
            Step::NullableBytes(null, n) => {
                if !cursor.is_null(null)? {
                    cursor.fixed(n)?;
                }
            }
            Step::NullableVarint(null) => {
                if !cursor.is_null(null)? {
                    cursor.long()?;
                }
            }
            Step::Nested(id) => self.pass_nested(id, cursor, depth + 1)?,
        }
        Ok(())
    }
}

/// How to pass over a type by itself. Records are filled in once all types are known.
fn skip(schema: &Schema, of: &Type) -> Skip {
    match of {
        Type::Null => Skip::Bytes(0),
        Type::Boolean => Skip::Bytes(1),
        Type::Float => Skip::Bytes(4),
        Type::Double => Skip::Bytes(8),
        Type::Fixed(size) => Skip::Bytes(*size),
        Type::Int(_) | Type::Long(_) | Type::Enum(_) => Skip::Varint,
        Type::Bytes | Type::String => Skip::Counted,
        Type::Array(items) => Skip::Array(*items),
        Type::Map(values) => Skip::Map(*values),
        Type::Union(branches) => match schema.nullable(branches) {
            Some((null, value)) => Skip::Nullable(null, value),
            None => Skip::Union(branches.as_slice().into()),
        },
        Type::Record(_) => Skip::Record(Box::new([])),
    }
}

fn steps(types: &[Skip], fields: impl Iterator<Item = Id>) -> Box<[Step]> {
    let mut steps: Vec<Step> = Vec::new();
    for id in fields {
        let step = match &types[id] {
            Skip::Bytes(n) => Step::Bytes(*n),
            Skip::Varint => Step::Varint,
            Skip::Counted => Step::Counted,
            Skip::Nullable(null, value) => match &types[*value] {
                Skip::Bytes(n) => Step::NullableBytes(*null, *n),
                Skip::Varint => Step::NullableVarint(*null),
                _ => Step::Nested(id),
            },
            _ => Step::Nested(id),
        };
        match (steps.last_mut(), step) {
            (Some(Step::Bytes(before)), Step::Bytes(n)) if before.checked_add(n).is_some() => *before += n,
            _ => steps.push(step),
        }
    }
    steps.into()
}

fn pass_blocks<'a>(cursor: &mut Cursor<'a>, mut item: impl FnMut(&mut Cursor<'a>) -> Read<()>) -> Read<()> {
    loop {
        match cursor.block()? {
            (0, _) => return Ok(()),
            (_, Some(bytes)) => drop(cursor.fixed(bytes)?),
            (items, None) => {
                cursor.spend(items, 1)?;
                for _ in 0..items {
                    item(cursor)?;
                }
            }
        }
    }
}
