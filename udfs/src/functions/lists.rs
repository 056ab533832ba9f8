//! Histories: an alert's earlier detections and upper limits, stored as a list of structs, and its projections.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int32Array, ListArray, MutableArrayData, make_array};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Int64Type};
use datafusion::common::{Result, exec_datafusion_err, exec_err};
use datafusion::logical_expr::type_coercion::binary::type_union_resolution;

use super::kernel::{Coerced, Kernel, named};

pub(super) fn functions() -> Vec<Kernel> {
    let previous = "previous_in_band(jds, mags, bands, band): lists of the history, and the band now";
    vec![
        Kernel::new("history", "history(list, current)", list_and_element, |coerced| coerced[0].clone(), history),
        Kernel::new("n_detections", "n_detections(magnitudes)", one_list, |_| DataType::Int32, n_detections),
        Kernel::new("previous_in_band", previous, histories_and_band, |_| DataType::Float64, previous_in_band),
    ]
}

/// A list of any layout, as the plain one. `item` is nullable: histories hold upper limits without a magnitude.
pub(super) fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, true)))
}

pub(super) fn item_of(list: &DataType) -> Option<&DataType> {
    match list {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => Some(item.data_type()),
        DataType::ListView(item) | DataType::LargeListView(item) => Some(item.data_type()),
        _ => None,
    }
}

fn list_and_element(given: &[DataType]) -> Coerced {
    let [list, current] = given else { return Err(format!("{} arguments given, 2 wanted", given.len())) };
    let item = match (item_of(list), list.is_null()) {
        (Some(item), _) => item,
        (None, true) => current,
        (None, false) => return Err(format!("argument 1 is {}, not a list", named(list))),
    };
    let both =
        if item == current { Some(item.clone()) } else { type_union_resolution(&[item.clone(), current.clone()]) };
    let both = both.ok_or_else(|| format!("a list of {item} cannot hold the {current} of argument 2"))?;
    Ok(vec![list_of(both.clone()), both])
}

fn one_list(given: &[DataType]) -> Coerced {
    match given {
        [DataType::Null] => Ok(vec![list_of(DataType::Float64)]),
        [list] => match item_of(list) {
            Some(DataType::Float16) => Ok(vec![list_of(DataType::Float32)]),
            Some(item) => Ok(vec![list_of(item.clone())]),
            None => Err(format!("argument 1 is {list}, not a list")),
        },
        _ => Err(format!("{} arguments given, 1 wanted", given.len())),
    }
}

fn histories_and_band(given: &[DataType]) -> Coerced {
    let [jds, mags, bands, band] = given else { return Err(format!("{} arguments given, 4 wanted", given.len())) };
    for (i, list) in [jds, mags].into_iter().enumerate() {
        if !(list.is_null() || item_of(list).is_some_and(|item| item.is_numeric() || item.is_null())) {
            return Err(format!("argument {} is {list}, not a list of numbers", i + 1));
        }
    }
    let label = match (item_of(bands), band) {
        (Some(item), band) if item.is_integer() && (band.is_integer() || band.is_null()) => DataType::Int64,
        (Some(item), band) if item.is_string() && (band.is_string() || band.is_null()) => DataType::Utf8,
        (None, band) if bands.is_null() && band.is_integer() => DataType::Int64,
        (None, _) if bands.is_null() => DataType::Utf8,
        _ => return Err(format!("bands are integers or texts alike, not {bands} and {band}")),
    };
    let doubles = list_of(DataType::Float64);
    Ok(vec![doubles.clone(), doubles, list_of(label.clone()), label])
}

fn as_list(array: &ArrayRef) -> Result<&ListArray> {
    array.as_list_opt().ok_or_else(|| exec_datafusion_err!("a list arrived as {}", array.data_type()))
}

/// The history with the alert's own value at its end, nulls kept; that value alone where there is no history.
/// Never null: Fink's science modules are given every alert's light curve this way (`concat_col`).
fn history(args: &[ArrayRef]) -> Result<ArrayRef> {
    let (list, current) = (as_list(&args[0])?, args[1].to_data());
    let earlier = list.values().to_data();
    let mut values = MutableArrayData::new(vec![&earlier, &current], true, earlier.len() + current.len());
    let offsets = list.value_offsets();
    for row in 0..list.len() {
        if list.is_valid(row) {
            values.try_extend(0, offsets[row] as usize, offsets[row + 1] as usize)?;
        }
        values.try_extend(1, row, row + 1)?;
    }
    let lengths = (0..list.len()).map(|row| if list.is_valid(row) { list.value_length(row) as usize + 1 } else { 1 });
    let item = Arc::new(Field::new_list_field(list.value_type(), true));
    Ok(Arc::new(ListArray::try_new(item, OffsetBuffer::from_lengths(lengths), make_array(values.freeze()), None)?))
}

/// Number of elements that are neither null nor NaN: an upper limit has no magnitude and is no detection.
/// Of [`history`] it is Fink's `nalerthist`.
fn n_detections(args: &[ArrayRef]) -> Result<ArrayRef> {
    let list = as_list(&args[0])?;
    let values = list.values();
    let nan: Box<dyn Fn(usize) -> bool> = match values.data_type() {
        DataType::Float32 => Box::new(|i| values.as_primitive::<Float32Type>().value(i).is_nan()),
        DataType::Float64 => Box::new(|i| values.as_primitive::<Float64Type>().value(i).is_nan()),
        _ => Box::new(|_| false),
    };
    let nulls = values.logical_nulls();
    let counts: Int32Array = (0..list.len())
        .map(|row| {
            let seen = |i: &usize| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(*i)) && !nan(*i);
            list.is_valid(row).then(|| elements(list, row).filter(seen).count() as i32)
        })
        .collect();
    Ok(Arc::new(counts))
}

/// Magnitude of the latest detection of the history in the band of the alert; null if it has none.
/// Entries without a date or a magnitude (null or NaN) are no detections; of two at one date the first counts.
fn previous_in_band(args: &[ArrayRef]) -> Result<ArrayRef> {
    let (jds, mags, bands, band) = (as_list(&args[0])?, as_list(&args[1])?, as_list(&args[2])?, &args[3]);
    let (jd, mag) = (jds.values().as_primitive::<Float64Type>(), mags.values().as_primitive::<Float64Type>());
    let labels = bands.values();
    let same: Box<dyn Fn(usize, usize) -> bool> = match labels.data_type() {
        DataType::Utf8 => Box::new(|i, row| labels.as_string::<i32>().value(i) == band.as_string::<i32>().value(row)),
        _ => {
            let (labels, band) = (labels.as_primitive::<Int64Type>(), band.as_primitive::<Int64Type>());
            Box::new(|i, row| labels.value(i) == band.value(row))
        }
    };
    let previous = |row: usize| -> Result<Option<f64>> {
        let (at, mag_at, label_at) = (elements(jds, row), elements(mags, row), elements(bands, row));
        if at.len() != mag_at.len() || at.len() != label_at.len() {
            return exec_err!(
                "previous_in_band: lists of {}, {} and {} entries are not of one history",
                at.len(),
                mag_at.len(),
                label_at.len()
            );
        }
        let mut latest: Option<(f64, f64)> = None;
        for ((i, j), k) in at.zip(mag_at).zip(label_at) {
            let seen = known(jd, i) && known(mag, j) && labels.is_valid(k) && same(k, row);
            if seen && latest.is_none_or(|(date, _)| jd.value(i) > date) {
                latest = Some((jd.value(i), mag.value(j)));
            }
        }
        Ok(latest.map(|(_, mag)| mag))
    };
    let complete = |row| jds.is_valid(row) && mags.is_valid(row) && bands.is_valid(row) && band.is_valid(row);
    let found: Result<Float64Array> =
        (0..jds.len()).map(|row| if complete(row) { previous(row) } else { Ok(None) }).collect();
    Ok(Arc::new(found?))
}

fn known(values: &Float64Array, i: usize) -> bool {
    values.is_valid(i) && !values.value(i).is_nan()
}

/// Where the elements of one row are in the list's values.
fn elements(list: &ListArray, row: usize) -> std::ops::Range<usize> {
    let offsets = list.value_offsets();
    offsets[row] as usize..offsets[row + 1] as usize
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::{check, refused};

    #[test]
    fn a_history_ends_with_the_alert_and_keeps_its_nulls() {
        check("history([1.0, NULL, 3.0], 4.0)", "[1.0, NULL, 3.0, 4.0]");
        check("history([1.0], NULL)", "[1.0, NULL]");
        check("history(NULL, 4.0)", "[4.0]");
        check("history(arrow_cast(NULL, 'List(Float32)'), 4.0)", "[4.0]");
        check("history(arrow_cast([1.5], 'LargeList(Float32)'), arrow_cast(2, 'Float32'))", "[1.5, 2.0]");
        check("arrow_typeof(history(arrow_cast([1.5], 'List(Float32)'), arrow_cast(2, 'Float32')))", "List(Float32)");
        check("history(['g'], 'r')", "[g, r]");
        check("history([{jd: 1, mag: 2}], {jd: 3, mag: 4})", "[{jd: 1, mag: 2}, {jd: 3, mag: 4}]");
    }

    #[test]
    fn an_upper_limit_is_no_detection() {
        check("n_detections([1.0, NULL, 'NaN'::double])", "1");
        check("n_detections(history(arrow_cast([18.5, NULL], 'List(Float32)'), arrow_cast(18.1, 'Float32')))", "2");
        check("n_detections(arrow_cast([], 'List(Float32)'))", "0");
        check("n_detections(NULL)", "NULL");
        check("n_detections([1, NULL, 3])", "2");
    }

    #[test]
    fn the_previous_detection_is_the_latest_in_the_same_band() {
        check("previous_in_band([1.0, 3.0, 2.0], [18.0, 17.0, 16.0], [1, 1, 2], 1)", "17.0");
        check("previous_in_band([1.0, 3.0, 2.0], [18.0, NULL, 16.0], [1, 1, 2], 1)", "18.0");
        check("previous_in_band([1.0, 1.0], [18.0, 16.0], ['g', 'g'], 'g')", "18.0");
        check("previous_in_band([1.0], [18.0], ['g'], 'r')", "NULL");
        check("previous_in_band([1.0], [18.0], [NULL, 1], 1)", "error: lists of 1, 1 and 2 entries");
        check("previous_in_band(NULL, NULL, NULL, 1)", "NULL");
    }

    #[test]
    fn wrong_arguments_are_refused_with_the_usage() {
        refused("history(1.0, 2.0)", "argument 1 is Float64, not a list; usage: history(list, current)");
        refused("n_detections(1.0)", "argument 1 is Float64, not a list; usage: n_detections(magnitudes)");
        refused("previous_in_band([1.0], ['a'], [1], 1)", "argument 2 is List(Utf8), not a list of numbers");
        refused("previous_in_band([1.0], [1.0], [1], 'g')", "bands are integers or texts alike");
    }
}
