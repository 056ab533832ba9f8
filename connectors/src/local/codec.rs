//! A row's cells as one value.
//!
//! ```text
//! version (1 byte, 1) │ timestamp of the first cell (8 bytes, big-endian) │ cell …
//! cell: column number │ timestamp - first timestamp, zigzag │ length │ bytes      (the three are LEB128 varints)
//! ```
//! Cells stand in the order of their numbers, each number once.

use bytes::Bytes;

/// A cell whose column is a number of its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cell {
    pub column: u32,
    pub timestamp: i64,
    pub value: Bytes,
}

const VERSION: u8 = 1;

/// `cells` in the order of their numbers.
pub(super) fn encode(cells: &[Cell]) -> Vec<u8> {
    let base = cells.first().map_or(0, |cell| cell.timestamp);
    let bytes = cells.iter().map(|cell| cell.value.len() + 4).sum::<usize>();
    let mut out = Vec::with_capacity(9 + bytes);
    out.push(VERSION);
    out.extend_from_slice(&base.to_be_bytes());
    for cell in cells {
        let delta = cell.timestamp.wrapping_sub(base);
        put_varint(&mut out, u64::from(cell.column));
        put_varint(&mut out, ((delta << 1) ^ (delta >> 63)) as u64);
        put_varint(&mut out, cell.value.len() as u64);
        out.extend_from_slice(&cell.value);
    }
    out
}

/// `None` if this was not written by [`encode`]. The cells share the value's buffer.
pub(super) fn decode(value: &Bytes) -> Option<Vec<Cell>> {
    let (&VERSION, rest) = value.split_first()? else { return None };
    let base = i64::from_be_bytes(rest.get(..8)?.try_into().ok()?);
    let mut at = 9;
    let mut cells = Vec::new();
    while at < value.len() {
        let column = u32::try_from(varint(value, &mut at)?).ok()?;
        let zigzag = varint(value, &mut at)?;
        let delta = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
        let len = usize::try_from(varint(value, &mut at)?).ok()?;
        let end = at.checked_add(len).filter(|end| *end <= value.len())?;
        cells.push(Cell { column, timestamp: base.wrapping_add(delta), value: value.slice(at..end) });
        at = end;
    }
    Some(cells)
}

/// The cells of both, the later put winning where timestamps are equal. Both in the order of their numbers.
pub(super) fn merge(stored: Vec<Cell>, put: Vec<Cell>) -> Vec<Cell> {
    if stored.is_empty() {
        return put;
    }
    let mut merged = Vec::with_capacity(stored.len().max(put.len()));
    let (mut stored, mut put) = (stored.into_iter().peekable(), put.into_iter().peekable());
    loop {
        match (stored.peek(), put.peek()) {
            (Some(a), Some(b)) if a.column == b.column => {
                let (old, new) = (stored.next(), put.next());
                let newer = old.as_ref().zip(new.as_ref()).is_some_and(|(old, new)| new.timestamp >= old.timestamp);
                merged.extend(if newer { new } else { old });
            }
            (Some(a), Some(b)) if a.column < b.column => merged.extend(stored.next()),
            (Some(_), None) => merged.extend(stored.by_ref()),
            (_, Some(_)) => merged.extend(put.next()),
            (None, None) => return merged,
        }
    }
}

/// The cells of one put in the order of their numbers; of two of one column the winner.
pub(super) fn normalise(mut cells: Vec<Cell>) -> Vec<Cell> {
    if !cells.is_sorted_by(|a, b| a.column < b.column) {
        // Stable: of equal timestamps the one that came later stays last, and is the one that stays.
        cells.sort_by_key(|cell| (cell.column, cell.timestamp));
        cells.reverse();
        cells.dedup_by_key(|cell| cell.column);
        cells.reverse();
    }
    cells
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cell(column: u32, timestamp: i64, value: &str) -> Cell {
        Cell { column, timestamp, value: Bytes::copy_from_slice(value.as_bytes()) }
    }

    fn cells() -> impl Strategy<Value = Vec<Cell>> {
        let parts = (0..20_u32, prop_oneof![Just(5), Just(i64::MIN), any::<i64>()], "[ab]{0,200}");
        prop::collection::vec(parts.prop_map(|(column, timestamp, value)| cell(column, timestamp, &value)), 0..30)
    }

    proptest! {
        #[test]
        fn any_row_is_read_back_as_written(cells in cells()) {
            let cells = normalise(cells);
            prop_assert_eq!(decode(&encode(&cells).into()).unwrap(), cells);
        }

        #[test]
        fn a_cut_value_is_no_row_and_no_panic(cells in cells(), cut in 0..100_usize) {
            let mut value = encode(&normalise(cells));
            value.truncate(cut);
            let _ = decode(&value.into());
        }

        #[test]
        fn putting_twice_is_putting_once(stored in cells(), put in cells()) {
            let (stored, put) = (normalise(stored), normalise(put));
            let once = merge(stored, put.clone());
            prop_assert_eq!(merge(once.clone(), put), once);
        }
    }

    #[test]
    fn the_newest_cell_wins_and_of_equals_the_later_put() {
        let stored = vec![cell(1, 5, "old"), cell(2, 5, "kept"), cell(3, 9, "newer")];
        let put = vec![cell(1, 5, "later"), cell(3, 8, "older"), cell(4, 1, "new")];
        let expected = vec![cell(1, 5, "later"), cell(2, 5, "kept"), cell(3, 9, "newer"), cell(4, 1, "new")];
        assert_eq!(merge(stored, put), expected);
    }

    #[test]
    fn one_put_with_a_cell_twice_keeps_the_winner() {
        let cells = vec![cell(2, 1, "a"), cell(1, 5, "b"), cell(1, 4, "c"), cell(2, 1, "d")];
        assert_eq!(normalise(cells), [cell(1, 5, "b"), cell(2, 1, "d")]);
    }
}
