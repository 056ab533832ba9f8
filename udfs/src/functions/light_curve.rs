//! Numbers that describe a light curve: those of the package `light-curve` that Fink's anomaly detection takes (Malanchev
//! et al. 2021, MNRAS 502, 5147, appendix A), and some more of it, by the same names and with the same values.
//!
//! An observation whose time, value or error is not known, or whose error is not positive, is none. A number that the
//! observations are too few for, or that would divide by zero, is null.

mod features;
mod normal;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Float64Builder, ListArray, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields, Float64Type};
use datafusion::common::{Result, exec_err};

use self::features::{NAMES, features};
use super::kernel::{Coerced, Kernel, named};
use super::lists::{item_of, list_of};

/// What was seen, and when, in order of time.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Observation {
    time: f64,
    value: f64,
    error: f64,
}

pub(super) fn functions() -> Vec<Kernel> {
    let usage = "light_curve_features(times, values, errors): lists of one length; values and errors in one unit";
    vec![Kernel::new(
        "light_curve_features",
        usage,
        three_lists,
        |_| DataType::Struct(fields()),
        |args| {
            let lists: Vec<&ListArray> = args.iter().map(|arg| arg.as_list::<i32>()).collect();
            let numbers: Vec<&Float64Array> =
                lists.iter().map(|list| list.values().as_primitive::<Float64Type>()).collect();
            let mut columns: Vec<Float64Builder> = NAMES.iter().map(|_| Float64Builder::new()).collect();
            let mut known = Vec::with_capacity(lists[0].len());
            for row in 0..lists[0].len() {
                let curve = match lists.iter().all(|list| list.is_valid(row)) {
                    true => observations(&lists, &numbers, row)?,
                    false => Vec::new(),
                };
                known.push(!curve.is_empty());
                let found = features(&curve);
                columns.iter_mut().zip(found).for_each(|(column, value)| {
                    column.append_option(Some(value).filter(|value| value.is_finite()));
                });
            }
            let columns = columns.into_iter().map(|mut column| Arc::new(column.finish()) as ArrayRef).collect();
            Ok(Arc::new(StructArray::try_new(fields(), columns, Some(NullBuffer::from(known)))?))
        },
    )]
}

fn fields() -> Fields {
    NAMES.iter().map(|name| Field::new(*name, DataType::Float64, true)).collect()
}

fn three_lists(given: &[DataType]) -> Coerced {
    if given.len() != 3 {
        return Err(format!("{} arguments given, 3 wanted", given.len()));
    }
    for (i, list) in given.iter().enumerate().filter(|(_, list)| !list.is_null()) {
        if !item_of(list).is_some_and(|item| item.is_numeric() || item.is_null()) {
            return Err(format!("argument {} is {}, not a list of numbers", i + 1, named(list)));
        }
    }
    Ok(vec![list_of(DataType::Float64); 3])
}

fn observations(lists: &[&ListArray], numbers: &[&Float64Array], row: usize) -> Result<Vec<Observation>> {
    let lengths: Vec<i32> = lists.iter().map(|list| list.value_length(row)).collect();
    if lengths.iter().any(|length| *length != lengths[0]) {
        return exec_err!("light_curve_features: lists of {lengths:?} entries are not of one light curve");
    }
    let number = |list: usize, i: i32| {
        let at = (lists[list].value_offsets()[row] + i) as usize;
        numbers[list].is_valid(at).then(|| numbers[list].value(at)).filter(|number| number.is_finite())
    };
    let seen = |i| Some(Observation { time: number(0, i)?, value: number(1, i)?, error: number(2, i)? });
    let mut curve: Vec<_> = (0..lengths[0]).filter_map(seen).filter(|seen| seen.error > 0.0).collect();
    curve.sort_by(|a, b| a.time.total_cmp(&b.time));
    Ok(curve)
}

#[cfg(test)]
mod tests {
    use super::features::NAMES;
    use crate::functions::testing::{check, refused};

    /// Ten observations, and what light-curve 0.13.3 makes of them.
    const CURVE: &str = "light_curve_features([0.0, 1.1, 2.3, 2.9, 4.2, 5.0, 6.7, 7.1, 8.8, 9.4], \
        [18.1, 18.4, 17.9, 18.0, 17.2, 17.1, 17.6, 18.3, 18.2, 18.5], \
        [0.05, 0.07, 0.04, 0.05, 0.03, 0.03, 0.04, 0.06, 0.05, 0.08])";
    const OF_THE_PACKAGE: &[(&str, &str)] = &[
        ("mean", "17.93"),
        ("weighted_mean", "17.6538261582"),
        ("standard_deviation", "0.485455112927"),
        ("median", "18.05"),
        ("amplitude", "0.7"),
        ("beyond_1_std", "0.3"),
        ("cusum", "0.389325387595"),
        ("inter_percentile_range_10", "1.3"),
        ("kurtosis", "-0.607203375419"),
        ("linear_trend", "0.0170384305294"),
        ("linear_trend_sigma", "0.0530448093349"),
        ("linear_trend_noise", "0.511614367421"),
        ("linear_fit_slope", "-0.00185548859807"),
        ("linear_fit_slope_sigma", "0.00568698122121"),
        ("linear_fit_reduced_chi2", "149.699946658"),
        ("magnitude_percentage_ratio_40_5", "0.142857142857"),
        ("magnitude_percentage_ratio_20_10", "0.730769230769"),
        ("maximum_slope", "1.75"),
        ("median_absolute_deviation", "0.3"),
        ("median_buffer_range_percentage_10", "0.2"),
        ("percent_amplitude", "0.95"),
        ("mean_variance", "0.0270750202413"),
        ("anderson_darling_normal", "0.444621839496"),
        ("chi2", "133.078447229"),
        ("skew", "-0.767445028868"),
        ("stetson_K", "0.912513037582"),
        ("eta", "0.867515322961"),
        ("eta_e", "2.09458150032"),
        ("excess_variance", "0.000724533770223"),
    ];

    #[test]
    fn each_number_is_that_of_the_package() {
        assert_eq!(OF_THE_PACKAGE.len(), NAMES.len());
        for (name, value) in OF_THE_PACKAGE {
            check(&format!("abs({CURVE}.{name} - ({value})) <= 1e-6 * abs({value})"), "true");
        }
    }

    #[test]
    fn observations_that_are_not_whole_are_left_out_and_order_is_that_of_time() {
        let with = "light_curve_features([3.0, 1.0, 2.0, 4.0, NULL, 6.0], [7.0, 5.0, 6.0, NULL, 9.0, 'NaN'::double], [1, 1, 1, 1, 1, 1])";
        check(&format!("{with} = light_curve_features([1.0, 2.0, 3.0], [5.0, 6.0, 7.0], [1, 1, 1])"), "true");
        check(&format!("{with}.linear_trend"), "1.0");
        check("light_curve_features([1.0, 2.0], [5.0, 6.0], [1.0, 0.0]).mean", "5.0");
    }

    #[test]
    fn what_too_few_observations_cannot_tell_is_null() {
        let one = "light_curve_features([1.0], [5.0], [0.1])";
        check(&format!("{one}.mean"), "5.0");
        for name in
            ["standard_deviation", "skew", "kurtosis", "linear_trend", "maximum_slope", "anderson_darling_normal"]
        {
            check(&format!("{one}.{name}"), "NULL");
        }
        check("light_curve_features([1.0, 2.0, 3.0], [5.0, 5.0, 5.0], [0.1, 0.1, 0.1]).cusum", "NULL");
        check("light_curve_features([1.0, 1.0, 1.0], [5.0, 6.0, 7.0], [0.1, 0.1, 0.1]).maximum_slope", "NULL");
        check("light_curve_features([], [], [])", "NULL");
        check("light_curve_features(NULL, [1.0], [1.0])", "NULL");
    }

    #[test]
    fn wrong_arguments_are_refused() {
        check("light_curve_features([1.0], [1.0, 2.0], [1.0])", "error: lists of [1, 2, 1] entries");
        refused("light_curve_features([1.0], ['a'], [1.0])", "argument 2 is a list of Utf8, not a list of numbers");
        refused("light_curve_features([1.0], [1.0])", "2 arguments given, 3 wanted; usage: light_curve_features(times");
    }
}
