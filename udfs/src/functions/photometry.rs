//! Magnitudes and fluxes: `m = zero point - 2.5 log10(flux)` (Pogson 1856, MNRAS 17, 12), and errors to first order,
//! `dm = 2.5 / ln 10 · df / f`.
//!
//! In the AB system 3631 Jy is magnitude 0 (Oke & Gunn 1983, ApJ 266, 713), so that a flux of 1 nJy has magnitude 31.4.
//! Rubin publishes nJy, ZTF magnitudes; SNANA's FLUXCAL has the zero point 27.5.

use std::f64::consts::LN_10;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array};
use arrow::datatypes::DataType;
use datafusion::common::Result;

use super::kernel::{Kernel, map, numbers};

/// AB magnitude of 1 nJy, as the surveys round it (2.5 log10(3631e9) is 31.400).
const NANO_JANSKY: f64 = 31.4;

pub(super) fn functions() -> Vec<Kernel> {
    let double = |_: &[DataType]| DataType::Float64;
    let by_zero_point = "mag_to_flux(mag, zeropoint): flux of the unit that has magnitude `zeropoint`";
    let error_by_zero_point = "magerr_to_fluxerr(mag, magerr, zeropoint): error of mag_to_flux(mag, zeropoint)";
    vec![
        Kernel::new("mag_to_flux_njy", "mag_to_flux_njy(mag): AB magnitude to nJy", numbers::<1>, double, |args| {
            each(args, |[mag]| flux(mag, NANO_JANSKY))
        }),
        Kernel::new("flux_njy_to_mag", "flux_njy_to_mag(flux): nJy to AB magnitude", numbers::<1>, double, |args| {
            each(args, |[flux]| magnitude(flux, NANO_JANSKY))
        }),
        Kernel::new(
            "magerr_to_fluxerr_njy",
            "magerr_to_fluxerr_njy(mag, magerr): error in nJy",
            numbers::<2>,
            double,
            |args| each(args, |[mag, error]| flux_error(flux(mag, NANO_JANSKY), error)),
        ),
        Kernel::new(
            "fluxerr_njy_to_magerr",
            "fluxerr_njy_to_magerr(flux, fluxerr): error in magnitudes",
            numbers::<2>,
            double,
            |args| each(args, |[flux, error]| magnitude_error(flux, error)),
        ),
        Kernel::new("mag_to_flux", by_zero_point, numbers::<2>, double, |args| {
            each(args, |[mag, zero_point]| flux(mag, zero_point))
        }),
        Kernel::new(
            "flux_to_mag",
            "flux_to_mag(flux, zeropoint): magnitude of a flux in the unit that has magnitude `zeropoint`",
            numbers::<2>,
            double,
            |args| each(args, |[flux, zero_point]| magnitude(flux, zero_point)),
        ),
        Kernel::new("magerr_to_fluxerr", error_by_zero_point, numbers::<3>, double, |args| {
            each(args, |[mag, error, zero_point]| flux_error(flux(mag, zero_point), error))
        }),
        Kernel::new(
            "fluxerr_to_magerr",
            "fluxerr_to_magerr(flux, fluxerr): error in magnitudes, whatever the zero point",
            numbers::<2>,
            double,
            |args| each(args, |[flux, error]| magnitude_error(flux, error)),
        ),
    ]
}

/// Flux of a magnitude, in the unit whose magnitude is the zero point.
pub(super) fn flux(mag: f64, zero_point: f64) -> f64 {
    10f64.powf((zero_point - mag) / 2.5)
}

/// Magnitude of a flux; NaN when it is negative, infinite when it is 0.
pub(super) fn magnitude(flux: f64, zero_point: f64) -> f64 {
    zero_point - 2.5 * flux.log10()
}

pub(super) fn flux_error(flux: f64, magnitude_error: f64) -> f64 {
    flux * magnitude_error * LN_10 / 2.5
}

/// NaN for a flux that has no magnitude.
pub(super) fn magnitude_error(flux: f64, flux_error: f64) -> f64 {
    if flux > 0.0 { 2.5 / LN_10 * flux_error / flux } else { f64::NAN }
}

/// A result that is not finite has no meaning and becomes null.
fn each<const N: usize>(args: &[ArrayRef], f: impl Fn([f64; N]) -> f64) -> Result<ArrayRef> {
    Ok(Arc::new(map::<N, f64, Float64Array>(args, |values| Some(f(values)).filter(|result| result.is_finite()))?))
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::{check, refused};

    #[test]
    fn magnitudes_and_fluxes_go_both_ways() {
        check("flux_njy_to_mag(1.0)", "31.4");
        check("flux_njy_to_mag(3631e9) BETWEEN -0.001 AND 0.001", "true");
        check("round(mag_to_flux_njy(21.4), 6)", "10000.0");
        check("abs(flux_njy_to_mag(mag_to_flux_njy(18.25)) - 18.25) < 1e-12", "true");
    }

    #[test]
    fn any_zero_point_may_be_given() {
        check("flux_to_mag(100.0, 27.5)", "22.5");
        check("round(mag_to_flux(22.5, 27.5), 9)", "100.0");
        check("mag_to_flux(18.25, 31.4) = mag_to_flux_njy(18.25)", "true");
        check("round(magerr_to_fluxerr(22.5, 0.1, 27.5), 9)", "9.210340372");
        check("round(fluxerr_to_magerr(100.0, 9.210340372), 9)", "0.1");
        check("flux_to_mag(-1.0, 27.5)", "NULL");
        refused("flux_to_mag(1.0)", "1 arguments given, 2 wanted; usage: flux_to_mag(flux, zeropoint)");
    }

    #[test]
    fn errors_follow_the_slope() {
        check("round(fluxerr_njy_to_magerr(100.0, 1.0), 9)", "0.010857362");
        check("abs(magerr_to_fluxerr_njy(21.4, 0.01) - 92.10340371976183) < 1e-9", "true");
    }

    #[test]
    fn a_flux_that_is_not_positive_has_no_magnitude() {
        check("flux_njy_to_mag(0.0)", "NULL");
        check("flux_njy_to_mag(-5.0)", "NULL");
        check("fluxerr_njy_to_magerr(-5.0, 1.0)", "NULL");
        check("flux_njy_to_mag(NULL)", "NULL");
        refused("flux_njy_to_mag('5')", "argument 1 is Utf8, not a number; usage: flux_njy_to_mag(flux)");
    }
}
