//! Runs a program over the bytes of an alert and appends to the columns.

use super::column::{Column, Values, push_utf8};
use super::cursor::{Cursor, Read, Reason};
use super::program::{Action, Kind, Program, Record};
use super::skip::Skips;

/// Appends one value. After an error the column may hold a part of it, which the caller takes back.
pub(super) fn read(program: &Program, skips: &Skips, column: &mut Column, cursor: &mut Cursor<'_>) -> Read<()> {
    if let Some(null) = program.null
        && cursor.is_null(null)?
    {
        column.push_null();
        return Ok(());
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
        (Kind::Record(record), Values::Struct(columns)) => read_record(record, skips, columns, cursor)?,
        (Kind::Array(program), Values::List { ends, items }) => {
            read_blocks(cursor, items.width, |cursor| read(program, skips, items, cursor))?;
            ends.push(end(items)?);
        }
        (Kind::Map(program), Values::Map { ends, keys, values }) => {
            read_blocks(cursor, 1 + values.width, |cursor| {
                if let Values::Utf8 { ends, data } = &mut keys.values {
                    push_utf8(ends, data, cursor.bytes()?)?;
                }
                keys.push_valid();
                read(program, skips, values, cursor)
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
            return read(program, skips, column, cursor);
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
        (Kind::Never(reason), _) => return Err(Reason::Unresolved(reason.to_string()).into()),
        _ => return Err(Reason::Unresolved("the writer's type was resolved to another column".into()).into()),
    }
    Ok(())
}

/// Appends one value to each of the record's columns.
pub(super) fn read_record(record: &Record, skips: &Skips, columns: &mut [Column], cursor: &mut Cursor<'_>) -> Read<()> {
    for step in &record.steps {
        let done = match &step.action {
            Action::Read(position, program) => read(program, skips, &mut columns[*position], cursor),
            Action::Skip(id) => skips.pass(*id, cursor),
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
