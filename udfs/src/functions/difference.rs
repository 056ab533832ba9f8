//! Apparent brightness from ZTF's difference images.
//!
//! An alert tells how much brighter or fainter the sky was than the reference image: `magpsf`, and in `isdiffpos` which of
//! the two. What the source itself shone with, `DC` for its constant part, is that and the source in the reference image,
//! `magnr` (ZTF Science Data System Explanatory Supplement, version 5.0, page 107; the same as `apparent_flux` and `dc_mag`
//! of fink-utils). Errors are taken as independent.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields, Float64Type};
use datafusion::common::Result;

use super::kernel::{Coerced, Kernel, named, numbers};
use super::photometry::{flux, flux_error, magnitude, magnitude_error};

/// Of magnitude 0 in the AB system, Jy.
const JANSKY_OF_ZERO: f64 = 3631.0;

pub(super) fn functions() -> Vec<Kernel> {
    vec![
        Kernel::new(
            "ztf_dc_flux",
            "ztf_dc_flux(magpsf, sigmapsf, magnr, sigmagnr, isdiffpos): a struct of flux and fluxerr, Jy",
            of_difference,
            |_| DataType::Struct(pair(["flux", "fluxerr"])),
            |args| each(args, ["flux", "fluxerr"], |apparent| apparent),
        ),
        Kernel::new(
            "ztf_dc_mag",
            "ztf_dc_mag(magpsf, sigmapsf, magnr, sigmagnr, isdiffpos): a struct of mag and magerr, AB",
            of_difference,
            |_| DataType::Struct(pair(["mag", "magerr"])),
            |args| {
                each(args, ["mag", "magerr"], |(apparent, error)| {
                    let units = apparent / JANSKY_OF_ZERO;
                    (magnitude(units, 0.0), magnitude_error(units, error / JANSKY_OF_ZERO))
                })
            },
        ),
    ]
}

fn pair([value, error]: [&str; 2]) -> Fields {
    let field = |name: &str| Field::new(name, DataType::Float64, true);
    Fields::from(vec![field(value), field(error)])
}

fn of_difference(given: &[DataType]) -> Coerced {
    let Some((sign, magnitudes)) = given.split_last().filter(|_| given.len() == 5) else {
        return Err(format!("{} arguments given, 5 wanted", given.len()));
    };
    let mut coerced = numbers::<4>(magnitudes)?;
    let fits = sign.is_null() || sign.is_string() || sign.is_integer() || *sign == DataType::Boolean;
    match fits {
        true => coerced.push(DataType::Utf8),
        false => return Err(format!("argument 5 is {}, not a text such as 't' or 'f'", named(sign))),
    }
    Ok(coerced)
}

/// Whether the source was brighter than in the reference image; none of what ZTF does not write.
fn is_positive(sign: &str) -> Option<bool> {
    match sign {
        "t" | "1" | "true" => Some(true),
        "f" | "0" | "false" => Some(false),
        _ => None,
    }
}

/// Flux and its error, Jy. NaN for what is not known.
fn apparent([magpsf, sigmapsf, magnr, sigmagnr]: [f64; 4], positive: bool) -> (f64, f64) {
    // ZTF writes -999 where there is no source nearby.
    if magnr < 0.0 {
        return (f64::NAN, f64::NAN);
    }
    let (difference, reference) = (flux(magpsf, 0.0), flux(magnr, 0.0));
    let sum = if positive { reference + difference } else { reference - difference };
    let error = flux_error(difference, sigmapsf).hypot(flux_error(reference, sigmagnr));
    (sum * JANSKY_OF_ZERO, error * JANSKY_OF_ZERO)
}

/// A struct of value and error for each row; null where there is no value, and an error that is not known is null.
fn each(args: &[ArrayRef], names: [&str; 2], of: impl Fn((f64, f64)) -> (f64, f64)) -> Result<ArrayRef> {
    let numbers: Vec<&Float64Array> = args[..4].iter().map(|arg| arg.as_primitive::<Float64Type>()).collect();
    let signs = args[4].as_string::<i32>();
    let number = |i: usize, row: usize| if numbers[i].is_valid(row) { numbers[i].value(row) } else { f64::NAN };
    let finite = |value: f64| Some(value).filter(|value| value.is_finite());
    let pairs: Vec<_> = (0..signs.len())
        .map(|row| {
            let positive = if signs.is_valid(row) { is_positive(signs.value(row)) } else { None };
            let (value, error) = of(apparent([0, 1, 2, 3].map(|i| number(i, row)), positive?));
            finite(value).map(|value| (value, finite(error)))
        })
        .collect();
    let values: Float64Array = pairs.iter().map(|pair| pair.map(|(value, _)| value)).collect();
    let errors: Float64Array = pairs.iter().map(|pair| pair.and_then(|(_, error)| error)).collect();
    let known = NullBuffer::from_iter(pairs.iter().map(Option::is_some));
    let columns: Vec<ArrayRef> = vec![Arc::new(values), Arc::new(errors)];
    Ok(Arc::new(StructArray::try_new(pair(names), columns, Some(known))?))
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::{check, refused};

    #[test]
    fn the_source_is_what_differs_and_what_the_reference_image_has() {
        // Both of magnitude 20: twice the flux of one, or none.
        check("round(ztf_dc_mag(20, 0.1, 20, 0.1, 't').mag, 9)", "19.247425011");
        check("round(ztf_dc_mag(20, 0.1, 20, 0.1, 't').magerr, 9)", "0.070710678");
        check("round(ztf_dc_flux(20, 0.1, 20, 0.1, 't').flux * 1e6, 9)", "72.62");
        check("round(ztf_dc_flux(20, 0.1, 18, 0.02, 'f').flux * 1e6, 6)", "192.790612");
        check("ztf_dc_flux(20, 0.1, 20, 0.1, 'f').flux", "0.0");
        check("ztf_dc_mag(20, 0.1, 20, 0.1, 'f')", "NULL");
    }

    #[test]
    fn the_sign_is_written_in_all_ways_of_ztf() {
        for (one, other) in [("'t'", "'1'"), ("'f'", "'0'"), ("'t'", "1"), ("'f'", "false"), ("'t'", "true")] {
            check(&format!("ztf_dc_flux(19, 0.1, 18, 0.1, {one}) = ztf_dc_flux(19, 0.1, 18, 0.1, {other})"), "true");
        }
        check("ztf_dc_flux(19, 0.1, 18, 0.1, 'maybe')", "NULL");
    }

    #[test]
    fn what_is_not_known_is_null() {
        check("ztf_dc_flux(NULL, NULL, 18, 0.1, 't')", "NULL");
        check("ztf_dc_flux(19, 0.1, -999, 0.1, 't')", "NULL");
        check("ztf_dc_flux(19, 0.1, 18, 0.1, NULL)", "NULL");
        check("ztf_dc_flux(19, NULL, 18, 0.1, 't').fluxerr", "NULL");
        check("ztf_dc_flux(19, NULL, 18, 0.1, 't').flux > 0", "true");
        refused("ztf_dc_flux(19, 0.1, 18, 0.1)", "4 arguments given, 5 wanted; usage: ztf_dc_flux(magpsf");
        refused("ztf_dc_mag(19, 0.1, 18, 0.1, 0.5)", "argument 5 is Float64, not a text such as 't' or 'f'");
    }
}
