//! A version of a module beside the one in use: called with the same arguments, compared, and written nowhere.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};

use crate::ledger::Shadow;
use crate::runtime::{Evaluated, Version};

/// How the values of the version in the shadow differ from those in use. A row that either fails on is a failure.
pub(super) fn compare(version: &Version, values: &ArrayRef, shadow: Result<Evaluated, String>) -> Shadow {
    let n = values.len();
    let sum = Shadow { lock: version.lock.clone(), rows: n as u64, ..Shadow::default() };
    let found = match shadow {
        Ok(found) if found.values.len() == n && found.values.data_type() == values.data_type() => found,
        _ => return Shadow { differ: n as u64, failures: n as u64, ..sum },
    };
    let differs = |row: &usize| values.slice(*row, 1).to_data() != found.values.slice(*row, 1).to_data();
    let differ = (0..n).filter(differs).count() as u64;
    let max_difference = if differ == 0 { None } else { largest(values, &found.values) };
    Shadow { differ, max_difference, failures: found.failures.len() as u64, ..sum }
}

/// The largest difference of numbers; nothing of other types.
fn largest(values: &ArrayRef, others: &ArrayRef) -> Option<f64> {
    if !values.data_type().is_numeric() {
        return None;
    }
    let [a, b] = [values, others].map(|values| cast(values, &DataType::Float64).ok());
    let (a, b) = (a?, b?);
    let pairs = a.as_primitive::<Float64Type>().iter().zip(b.as_primitive::<Float64Type>());
    let differences = pairs.filter_map(|(a, b)| Some((a? - b?).abs())).filter(|difference| difference.is_finite());
    differences.reduce(f64::max)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, StringArray};

    use super::*;
    use crate::ledger::ModuleCounts;

    fn version() -> Version {
        Version { module: "rise_rate".into(), lock: "two".into(), bundles: None }
    }

    fn compared(values: ArrayRef, others: ArrayRef) -> Shadow {
        compare(
            &version(),
            &values,
            Ok(Evaluated { values: others, failures: vec![(1, "no".into())], took: ModuleCounts::default() }),
        )
    }

    #[test]
    fn rows_that_differ_are_counted_and_the_largest_difference_of_numbers_is_told() {
        let numbers = |values: [Option<f64>; 4]| Arc::new(Float64Array::from(values.to_vec())) as ArrayRef;
        let first = numbers([Some(1.0), None, Some(f64::NAN), Some(4.0)]);
        let found = compared(first, numbers([Some(1.0), Some(2.0), Some(f64::NAN), Some(4.5)]));
        let expected = Shadow { lock: "two".into(), rows: 4, differ: 2, max_difference: Some(0.5), failures: 1 };
        assert_eq!(found, expected);
        let texts = |values: [&str; 2]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
        let found = compared(texts(["a", "b"]), texts(["a", "c"]));
        assert_eq!((found.differ, found.max_difference), (1, None));
    }

    #[test]
    fn a_version_that_cannot_be_called_differs_in_every_row_and_costs_none() {
        let values = Arc::new(Float64Array::from(vec![1.0, 2.0])) as ArrayRef;
        let found = compare(&version(), &values, Err("no worker".into()));
        assert_eq!((found.rows, found.differ, found.failures), (2, 2, 2));
    }
}
