//! A histogram in characters: one bar a line, of equal parts of the range or of the most frequent values.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::compute::cast;
use arrow::compute::kernels::length::length;
use arrow::datatypes::{DataType, Field};
use arrow::error::ArrowError;
use serde::Serialize;

use super::{cells, paint};
use crate::values::grouped;

/// Most bars.
const BARS: usize = 12;
/// Characters of the longest bar.
const WIDTH: usize = 40;
/// Characters of a value's text.
const LABEL: usize = 24;

/// How a column's values are spread.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct Spread {
    /// Field of a struct; the module's name of a plain value.
    pub name: String,
    pub n_null: usize,
    /// Least, median and greatest number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<[f64; 3]>,
    pub bars: Vec<Bar>,
}

#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct Bar {
    /// The value, or where the part of the range begins.
    pub label: String,
    pub n: usize,
}

/// The spread of a column; of a struct, that of each field.
pub fn spreads(name: &str, column: &ArrayRef) -> Result<Vec<Spread>, ArrowError> {
    let Some(parts) = column.as_struct_opt() else { return Ok(vec![spread(name, column)?]) };
    let fields = parts.fields().iter().zip(parts.columns());
    // A null struct has no fields either.
    let own = |part: &ArrayRef| match parts.nulls() {
        Some(_) => arrow::compute::nullif(part, &arrow::compute::is_null(parts)?),
        None => Ok(part.clone()),
    };
    fields.map(|(field, part)| spread(field.name(), &own(part)?)).collect()
}

fn spread(name: &str, column: &ArrayRef) -> Result<Spread, ArrowError> {
    let (name, n_null) = (name.to_owned(), column.null_count());
    if let Some(numbers) = numbers(column)? {
        let mut finite: Vec<f64> = numbers.iter().flatten().filter(|value| value.is_finite()).collect();
        finite.sort_by(f64::total_cmp);
        if let (Some(least), Some(most)) = (finite.first(), finite.last()) {
            let range = Some([*least, finite[finite.len() / 2], *most]);
            let bars = if distinct(&finite) <= BARS { by_number(&finite) } else { by_range(&finite, *least, *most) };
            return Ok(Spread { name, n_null, range, bars });
        }
    }
    let field = Field::new("value", column.data_type().clone(), true).into();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for value in cells::plain(&field, column)?.into_iter().flatten() {
        *counts.entry(value).or_default() += 1;
    }
    let mut bars: Vec<Bar> = counts.into_iter().map(|(label, n)| Bar { label, n }).collect();
    bars.sort_by_key(|bar| std::cmp::Reverse(bar.n));
    bars.truncate(BARS);
    Ok(Spread { name, n_null, range: None, bars })
}

/// The values as numbers, the lengths of lists among them; none for what has no size.
fn numbers(column: &ArrayRef) -> Result<Option<Float64Array>, ArrowError> {
    let column = match column.data_type() {
        DataType::List(_) => length(column)?,
        data_type if data_type.is_numeric() => column.clone(),
        _ => return Ok(None),
    };
    Ok(cast(&column, &DataType::Float64)?.as_primitive_opt().cloned())
}

fn distinct(sorted: &[f64]) -> usize {
    sorted.chunk_by(|a, b| a == b).count()
}

fn by_number(sorted: &[f64]) -> Vec<Bar> {
    sorted.chunk_by(|a, b| a == b).map(|same| Bar { label: number(same[0]), n: same.len() }).collect()
}

fn by_range(values: &[f64], least: f64, most: f64) -> Vec<Bar> {
    let width = (most - least) / BARS as f64;
    let mut counts = [0; BARS];
    for value in values {
        counts[(((value - least) / width) as usize).min(BARS - 1)] += 1;
    }
    counts.iter().enumerate().map(|(i, n)| Bar { label: number(least + width * i as f64), n: *n }).collect()
}

/// Four digits that count.
pub fn number(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if value == value.trunc() && size < 1e9 => format!("{value}"),
        _ if !(1e-3..1e6).contains(&size) => format!("{value:.3e}"),
        _ => format!("{value:.*}", 3_usize.saturating_sub(size.log10().floor().max(0.0) as usize)),
    }
}

/// Bars with their labels and numbers.
pub fn draw(spread: &Spread) -> String {
    let most = spread.bars.iter().map(|bar| bar.n).max().unwrap_or(1).max(1);
    let shorten = |text: &str| text.chars().take(LABEL).collect::<String>();
    let width = spread.bars.iter().map(|bar| shorten(&bar.label).chars().count()).max().unwrap_or(0);
    let mut text = format!("  {}\n", paint::bold(&spread.name));
    for bar in &spread.bars {
        let drawn = "█".repeat((bar.n * WIDTH).div_ceil(most));
        text += &format!("  {:>width$} │{drawn} {}\n", shorten(&bar.label), grouped(bar.n as u64));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int32Array, StringArray, StructArray};

    use super::*;

    #[test]
    fn few_numbers_have_a_bar_each_and_many_share_the_range() {
        let few: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), Some(2), Some(2), None]));
        let few = &spreads("n", &few).unwrap()[0];
        assert_eq!(draw(few), format!("  n\n  1 │{} 1\n  2 │{} 2\n", "█".repeat(20), "█".repeat(40)));
        assert_eq!((few.n_null, few.range), (1, Some([1.0, 2.0, 2.0])));
        let many: ArrayRef = Arc::new(Float64Array::from_iter_values((0..=120).map(f64::from)));
        let many = &spreads("x", &many).unwrap()[0];
        assert_eq!(many.bars.len(), 12);
        assert_eq!((many.bars[11].label.as_str(), many.bars[11].n), ("110", 11));
    }

    #[test]
    fn texts_are_counted_and_a_struct_is_drawn_by_its_fields() {
        let band: ArrayRef = Arc::new(StringArray::from(vec!["g", "r", "r"]));
        let n: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3]));
        let fields = [("band", band), ("n", n)]
            .map(|(name, column)| (Arc::new(Field::new(name, column.data_type().clone(), true)), column));
        let both: ArrayRef = Arc::new(StructArray::from(fields.to_vec()));
        let spreads = spreads("both", &both).unwrap();
        let names: Vec<_> = spreads.iter().map(|spread| spread.name.as_str()).collect();
        assert_eq!(names, ["band", "n"]);
        assert_eq!(spreads[0].bars[0], Bar { label: "r".into(), n: 2 });
    }

    #[test]
    fn labels_have_the_digits_that_count() {
        let numbers = [0.123456, 12.3456, 1234.56, 1.5e9, 0.00001, -3.0].map(number);
        assert_eq!(numbers, ["0.123", "12.35", "1235", "1.500e9", "1.000e-5", "-3"]);
    }
}
