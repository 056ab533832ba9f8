//! Runs a program over the bytes of an alert and appends to the columns.

use super::column::{Column, Values, push_utf8};
use super::cursor::{Cursor, Read, Reason};
use super::program::{Action, Kind, Program, Record};
use super::schema::{Id, Schema, Type};

/// Deeper values are skipped by no honest schema; the limit keeps recursive types off the stack.
const MAX_DEPTH: usize = 64;

/// Appends one value. After an error the column may hold a part of it, which the caller takes back.
pub(super) fn read(program: &Program, schema: &Schema, column: &mut Column, cursor: &mut Cursor<'_>) -> Read<()> {
    if program.null_branch >= 0 {
        let branch = cursor.long()?;
        if branch == program.null_branch {
            column.push_null();
            return Ok(());
        }
        if branch != 1 - program.null_branch {
            return Err(Reason::Branch(branch).into());
        }
    }
    // Pairs are those that `program::resolve` allows.
    match (&program.kind, &mut column.values) {
        (Kind::Float, Values::F32(values)) => values.push(f32::from_le_bytes(cursor.array()?)),
        (Kind::Double, Values::F64(values)) => values.push(f64::from_le_bytes(cursor.array()?)),
        (Kind::Int, Values::I32(values)) => values.push(cursor.int()?),
        (Kind::Long, Values::I64(values)) => values.push(cursor.long()?),
        (Kind::Boolean, Values::Bool(values)) => values.push(cursor.boolean()?),
        (Kind::Bytes, Values::Utf8 { ends, data }) => push_utf8(ends, data, cursor.bytes()?)?,
        (Kind::Bytes, Values::View(views)) => {
            let bytes = cursor.bytes()?;
            views.push(bytes, cursor)?;
        }
        (Kind::Record(record), Values::Struct(columns)) => read_record(record, schema, columns, cursor)?,
        (Kind::Array(program), Values::List { ends, items }) => {
            read_blocks(cursor, items.width, |cursor| read(program, schema, items, cursor))?;
            ends.push(end(items)?);
        }
        (Kind::Map(program), Values::Map { ends, keys, values }) => {
            read_blocks(cursor, 1 + values.width, |cursor| {
                if let Values::Utf8 { ends, data } = &mut keys.values {
                    push_utf8(ends, data, cursor.bytes()?)?;
                }
                keys.push_valid();
                read(program, schema, values, cursor)
            })?;
            ends.push(end(values)?);
        }
        (Kind::Null, _) => {
            column.push_null();
            return Ok(());
        }
        (Kind::Union(branches), _) => {
            let branch = cursor.long()?;
            let program = usize::try_from(branch).ok().and_then(|i| branches.get(i)).ok_or(Reason::Branch(branch))?;
            return read(program, schema, column, cursor);
        }
        (kind, values) => read_promoted(kind, values, cursor)?,
    }
    column.push_valid();
    Ok(())
}

/// Pairs in which the reader's type is not the writer's.
fn read_promoted(kind: &Kind, values: &mut Values, cursor: &mut Cursor<'_>) -> Read<()> {
    match (kind, values) {
        (Kind::Int, Values::I64(values)) => values.push(i64::from(cursor.int()?)),
        (Kind::Int, Values::F32(values)) => values.push(cursor.int()? as f32),
        (Kind::Int, Values::F64(values)) => values.push(f64::from(cursor.int()?)),
        (Kind::Long, Values::F32(values)) => values.push(cursor.long()? as f32),
        (Kind::Long, Values::F64(values)) => values.push(cursor.long()? as f64),
        (Kind::Float, Values::F64(values)) => values.push(f64::from(f32::from_le_bytes(cursor.array()?))),
        (Kind::Ticks(factor), Values::I64(values)) => {
            values.push(cursor.long()?.checked_mul(*factor).ok_or(Reason::Number)?);
        }
        (Kind::Fixed(len), Values::Fixed { data, .. }) => data.extend_from_slice(cursor.fixed(*len)?),
        (Kind::Enum(symbols), Values::Utf8 { ends, data }) => {
            let index = cursor.long()?;
            let symbol = usize::try_from(index).ok().and_then(|i| symbols.get(i)).ok_or(Reason::Symbol(index))?;
            push_utf8(ends, data, symbol.as_bytes())?;
        }
        (Kind::Never(reason), _) => return Err(Reason::Unresolved(reason.clone()).into()),
        _ => return Err(Reason::Unresolved("the writer's type was resolved to another column".into()).into()),
    }
    Ok(())
}

/// Appends one value to each of the record's columns.
pub(super) fn read_record(
    record: &Record,
    schema: &Schema,
    columns: &mut [Column],
    cursor: &mut Cursor<'_>,
) -> Read<()> {
    for step in &record.steps {
        let done = match &step.action {
            Action::Read(position, program) => read(program, schema, &mut columns[*position], cursor),
            Action::Skip(id) => skip(schema, *id, cursor, 0),
        };
        if let Err(fault) = done {
            return Err(fault.inside(&step.field));
        }
    }
    record.missing.iter().for_each(|position| columns[*position].push_null());
    Ok(())
}

fn read_blocks<'a>(
    cursor: &mut Cursor<'a>,
    width: usize,
    mut item: impl FnMut(&mut Cursor<'a>) -> Read<()>,
) -> Read<()> {
    loop {
        let (items, _) = cursor.block()?;
        if items == 0 {
            return Ok(());
        }
        cursor.spend(items, width)?;
        for _ in 0..items {
            item(cursor)?;
        }
    }
}

fn end(items: &Column) -> Read<i32> {
    i32::try_from(items.len()).map_err(|_| Reason::BatchFull.into())
}

/// Passes over a value that nobody asked for.
fn skip(schema: &Schema, id: Id, cursor: &mut Cursor<'_>, depth: usize) -> Read<()> {
    if depth > MAX_DEPTH {
        return Err(Reason::Depth.into());
    }
    match schema.get(id) {
        Type::Null => {}
        Type::Boolean => drop(cursor.byte()?),
        Type::Int(_) | Type::Long(_) | Type::Enum(_) => drop(cursor.long()?),
        Type::Float => drop(cursor.array::<4>()?),
        Type::Double => drop(cursor.array::<8>()?),
        Type::Bytes | Type::String => drop(cursor.bytes()?),
        Type::Fixed(size) => drop(cursor.fixed(*size)?),
        Type::Array(items) => skip_blocks(cursor, |cursor| skip(schema, *items, cursor, depth + 1))?,
        Type::Map(values) => skip_blocks(cursor, |cursor| {
            cursor.bytes()?;
            skip(schema, *values, cursor, depth + 1)
        })?,
        Type::Union(branches) => {
            let branch = cursor.long()?;
            let id = usize::try_from(branch).ok().and_then(|i| branches.get(i)).ok_or(Reason::Branch(branch))?;
            skip(schema, *id, cursor, depth + 1)?;
        }
        Type::Record(fields) => {
            cursor.spend(1, fields.len())?;
            for field in fields {
                skip(schema, field.id, cursor, depth + 1)?;
            }
        }
    }
    Ok(())
}

fn skip_blocks<'a>(cursor: &mut Cursor<'a>, mut item: impl FnMut(&mut Cursor<'a>) -> Read<()>) -> Read<()> {
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
