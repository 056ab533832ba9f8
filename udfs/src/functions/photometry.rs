//! Magnitudes and fluxes in the AB system, where 3631 Jy is magnitude 0 (Oke & Gunn 1983, ApJ 266, 713), so that
//! a flux of 1 nJy has magnitude 31.4. Rubin publishes nJy, ZTF magnitudes.

use std::f64::consts::LN_10;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array};
use arrow::datatypes::DataType;
use datafusion::common::Result;

use super::kernel::{Kernel, map, numbers};

/// AB magnitude of 1 nJy, as the surveys round it (2.5 log10(3631e9) is 31.400).
const ZERO_POINT: f64 = 31.4;

pub(super) fn functions() -> Vec<Kernel> {
    let double = |_: &[DataType]| DataType::Float64;
    vec![
        Kernel::new("mag_to_flux_njy", "mag_to_flux_njy(mag): AB magnitude to nJy", numbers::<1>, double, |args| {
            each(args, |[mag]| flux(mag))
        }),
        Kernel::new("flux_njy_to_mag", "flux_njy_to_mag(flux): nJy to AB magnitude", numbers::<1>, double, |args| {
            each(args, |[flux]| magnitude(flux))
        }),
        // Errors to first order: d mag = 2.5 / ln 10 · d flux / flux.
        Kernel::new(
            "magerr_to_fluxerr_njy",
            "magerr_to_fluxerr_njy(mag, magerr): error in nJy",
            numbers::<2>,
            double,
            |args| each(args, |[mag, error]| flux(mag) * error * LN_10 / 2.5),
        ),
        Kernel::new(
            "fluxerr_njy_to_magerr",
            "fluxerr_njy_to_magerr(flux, fluxerr): error in magnitudes",
            numbers::<2>,
            double,
            |args| each(args, |[flux, error]| if flux > 0.0 { 2.5 / LN_10 * error / flux } else { f64::NAN }),
        ),
    ]
}

/// nJy of an AB magnitude.
fn flux(mag: f64) -> f64 {
    10f64.powf((ZERO_POINT - mag) / 2.5)
}

/// AB magnitude of a flux in nJy; NaN when it is negative, infinite when it is 0.
fn magnitude(flux: f64) -> f64 {
    ZERO_POINT - 2.5 * flux.log10()
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
