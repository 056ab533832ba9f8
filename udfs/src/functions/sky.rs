//! Positions on the sky: distances, cones and HEALPix cells. Right ascension and declination are in degrees.

use std::f64::consts::FRAC_PI_2;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array};
use arrow::datatypes::{DataType, Float64Type};
use cdshealpix::{nested, ring};
use datafusion::common::{Result, ScalarValue, exec_err};
use redpoll_core::sky::separation;

use super::kernel::{Kernel, map, numbers};

/// HEALPix indices of finer grids do not fit 64 bits.
const MAX_NSIDE: f64 = (1u64 << 29) as f64;

pub(super) fn functions() -> Vec<Kernel> {
    let double = |_: &[DataType]| DataType::Float64;
    let long = |_: &[DataType]| DataType::Int64;
    let boolean = |_: &[DataType]| DataType::Boolean;
    let separation_usage = "angular_separation(ra1, dec1, ra2, dec2): degrees";
    let cone_usage = "cone_search(ra, dec, ra0, dec0, radius): degrees";
    let ring_usage = "healpix_ring(ra, dec, nside): degrees, nside from 1 to 2^29";
    let nested_usage = "healpix_nested(ra, dec, nside): degrees, nside a power of 2 up to 2^29";
    vec![
        Kernel::new("angular_separation", separation_usage, numbers::<4>, double, |args| {
            Ok(Arc::new(map::<4, f64, Float64Array>(args, |angles| {
                Some(separation(angles)).filter(|angle| !angle.is_nan())
            })?))
        }),
        Kernel::new("cone_search", cone_usage, numbers::<5>, boolean, |args| {
            Ok(Arc::new(map::<5, bool, BooleanArray>(args, within)?))
        }),
        Kernel::new("healpix_ring", ring_usage, numbers::<3>, long, |args| cells(args, ring_cell, is_ring_nside))
            .with_check(|args| check_nside(args, is_ring_nside)),
        Kernel::new("healpix_nested", nested_usage, numbers::<3>, long, |args| {
            cells(args, nested_cell, is_nested_nside)
        })
        .with_check(|args| check_nside(args, is_nested_nside)),
    ]
}

/// Whether a position lies within `radius` of the centre, the rim included.
fn within([ra, dec, ra0, dec0, radius]: [f64; 5]) -> Option<bool> {
    // The distance is never less than the difference in declination, which needs no trigonometry. The margin is far
    // above the rounding of either and far below any position's error.
    if (dec - dec0).abs() > radius + 1e-9 && ra.is_finite() && ra0.is_finite() {
        return Some(false);
    }
    let distance = separation([ra, dec, ra0, dec0]);
    (!distance.is_nan() && !radius.is_nan()).then_some(distance <= radius)
}

fn is_ring_nside(nside: f64) -> bool {
    nside.fract() == 0.0 && (1.0..=MAX_NSIDE).contains(&nside)
}

fn is_nested_nside(nside: f64) -> bool {
    is_ring_nside(nside) && (nside as u64).is_power_of_two()
}

/// RING index (Górski et al. 2005, ApJ 622, 759), with colatitude 90° - dec and longitude ra.
fn ring_cell(nside: u32, ra: f64, dec: f64) -> u64 {
    ring::hash(nside, ra.to_radians(), dec.to_radians().clamp(-FRAC_PI_2, FRAC_PI_2))
}

fn nested_cell(nside: u32, ra: f64, dec: f64) -> u64 {
    let depth = nside.trailing_zeros() as u8;
    nested::hash(depth, ra.to_radians(), dec.to_radians().clamp(-FRAC_PI_2, FRAC_PI_2))
}

fn check_nside(args: &[Option<&ScalarValue>], fits: fn(f64) -> bool) -> std::result::Result<(), String> {
    let nside = args.get(2).copied().flatten().and_then(|nside| nside.cast_to(&DataType::Float64).ok());
    match nside {
        Some(ScalarValue::Float64(Some(nside))) if !fits(nside) => Err(format!("nside {nside} does not fit")),
        _ => Ok(()),
    }
}

fn cells(args: &[ArrayRef], cell: fn(u32, f64, f64) -> u64, fits: fn(f64) -> bool) -> Result<ArrayRef> {
    if let Some(nside) = args[2].as_primitive::<Float64Type>().iter().flatten().find(|nside| !fits(*nside)) {
        return exec_err!("nside {nside} does not fit: from 1 to 2^29, for nested cells a power of 2");
    }
    Ok(Arc::new(map::<3, i64, Int64Array>(args, |[ra, dec, nside]| {
        let on_sky = ra.is_finite() && (-90.0..=90.0).contains(&dec);
        on_sky.then(|| cell(nside as u32, ra.rem_euclid(360.0), dec) as i64)
    })?))
}

#[cfg(test)]
mod tests {
    use redpoll_core::sky::separation;

    use super::{nested_cell, ring_cell};
    use crate::functions::testing::{check, refused};

    /// Written by `make_sky.py` beside it, which also makes the larger file that `SKY_POINTS` may name.
    const SKY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/sky.csv");

    #[test]
    fn cells_and_distances_are_those_of_healpy_and_astropy() {
        let path = std::env::var("SKY_POINTS").unwrap_or_else(|_| SKY.into());
        let mut rows = 0;
        for line in std::fs::read_to_string(path).unwrap().lines().filter(|line| !line.starts_with('#')).skip(1) {
            let value: Vec<&str> = line.split(',').collect();
            let number = |i: usize| value[i].parse::<f64>().unwrap();
            let (ra, dec, nside) = (number(0), number(1), value[4].parse().unwrap());
            assert_eq!(ring_cell(nside, ra, dec).to_string(), value[5], "ring of {line}");
            if value[6] != "-1" {
                assert_eq!(nested_cell(nside, ra, dec).to_string(), value[6], "nested of {line}");
            }
            let (angle, angles) = (number(7), [ra, dec, number(2), number(3)]);
            let found = separation(angles);
            assert!((found - angle).abs() <= 1e-12 + 1e-14 * angle, "{line}: {found}");
            rows += 1;
        }
        assert!(rows > 500, "{rows}");
    }

    #[test]
    fn a_cone_holds_its_rim_and_crosses_the_wrap_and_the_pole() {
        check("cone_search(10.0, 0.0, 10.0, 1.0, 1.0)", "true");
        check("cone_search(359.9, 0.0, 0.1, 0.0, 0.21)", "true");
        check("cone_search(359.9, 0.0, 0.1, 0.0, 0.19)", "false");
        check("cone_search(0.0, 89.9, 180.0, 89.9, 0.21)", "true");
        check("cone_search(0, 45, 90, 45, 61)", "true");
        check("cone_search(0, 45, 90, 45, 59)", "false");
    }

    #[test]
    fn a_position_that_is_missing_or_off_the_sky_has_no_cell() {
        check("healpix_ring(NULL, 0.0, 64)", "NULL");
        check("healpix_ring('NaN'::double, 0.0, 64)", "NULL");
        check("healpix_ring(0.0, 90.1, 64)", "NULL");
        check("healpix_ring(-1.0, 10.0, 128) = healpix_ring(359.0, 10.0, 128)", "true");
        check("cone_search('NaN'::double, 0.0, 0.0, 0.0, 1.0)", "NULL");
        check("angular_separation('NaN'::double, 0.0, 0.0, 0.0)", "NULL");
    }

    #[test]
    fn wrong_arguments_are_refused_when_the_query_is_planned() {
        refused(
            "healpix_nested(1.0, 2.0, 100)",
            "healpix_nested: nside 100 does not fit; usage: healpix_nested(ra, dec, nside)",
        );
        refused("healpix_ring(1.0, 2.0, 0)", "nside 0 does not fit");
        refused(
            "cone_search(1, 2, 3, 4)",
            "4 arguments given, 5 wanted; usage: cone_search(ra, dec, ra0, dec0, radius)",
        );
        refused("angular_separation(1, 2, 3, true)", "argument 4 is Boolean, not a number");
    }
}
