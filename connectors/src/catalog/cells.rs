//! Cells of the sky: NESTED HEALPix (Górski et al. 2005, ApJ 622, 759) at the finest depth, 0.4 milliarcseconds, whose
//! numbers of a coarser cell are one range.

use std::f64::consts::FRAC_PI_2;

use cdshealpix::{best_starting_depth, nested};

/// Of the numbers in an index.
const DEPTH: u8 = 29;
/// Added to a cone, in radians, so that no rounding leaves a cell out. It is 0.02 milliarcseconds.
const MARGIN: f64 = 1e-10;

/// A half-open range of cells.
pub(super) type Range = (i64, i64);

/// The cell of a position in degrees; none of one that is not on the sky.
pub(super) fn cell(ra: f64, dec: f64) -> Option<i64> {
    let on_sky = ra.is_finite() && (-90.0..=90.0).contains(&dec);
    on_sky.then(|| hash(DEPTH, ra, dec) as i64)
}

/// Cells that hold every position within `radius` arcseconds: at most nine ranges, in order and apart.
pub(super) fn around(ra: f64, dec: f64, radius: f64) -> Vec<Range> {
    if cell(ra, dec).is_none() {
        return Vec::new();
    }
    // At this depth a cone reaches no further than the neighbours of the cell that it stands in.
    let depth = best_starting_depth((radius / 3600.0).to_radians() + MARGIN);
    let shift = 2 * (DEPTH - depth);
    let near = nested::neighbours(depth, hash(depth, ra, dec), true);
    let mut ranges: Vec<Range> =
        near.values_vec().into_iter().map(|cell| ((cell << shift) as i64, ((cell + 1) << shift) as i64)).collect();
    ranges.sort_unstable();
    ranges.dedup_by(|next, before| {
        let touch = next.0 <= before.1;
        if touch {
            before.1 = before.1.max(next.1);
        }
        touch
    });
    ranges
}

fn hash(depth: u8, ra: f64, dec: f64) -> u64 {
    nested::hash(depth, ra.rem_euclid(360.0).to_radians(), dec.to_radians().clamp(-FRAC_PI_2, FRAC_PI_2))
}

#[cfg(test)]
mod tests {
    use redpoll_core::sky::separation;

    use super::*;

    /// The point at a distance and a direction from another, all in degrees.
    fn towards(ra: f64, dec: f64, distance: f64, angle: f64) -> (f64, f64) {
        let (dec, distance, angle) = (dec.to_radians(), distance.to_radians(), angle.to_radians());
        let sin = dec.sin() * distance.cos() + dec.cos() * distance.sin() * angle.cos();
        let across = angle.sin() * distance.sin() * dec.cos();
        let along = distance.cos() - dec.sin() * sin;
        (ra + across.atan2(along).to_degrees(), sin.clamp(-1.0, 1.0).asin().to_degrees())
    }

    #[test]
    fn every_position_of_a_cone_is_in_its_cells_also_at_poles_and_seams() {
        let centres = [
            (0.0, 90.0),
            (123.0, -90.0),
            (45.0, 89.9999),
            (0.0, 0.0),
            (359.999_999_9, 12.0),
            (45.0, 0.0),
            (90.0, 41.810_314_895_778_6),
            (180.0, -41.810_314_895_778_6),
            (315.0, 66.4),
            (270.0, 5e-7),
            (217.3, -33.3),
        ];
        for (ra, dec) in centres {
            for radius in [1e-4, 0.3, 1.5, 60.0, 3600.0] {
                let ranges = around(ra, dec, radius);
                assert!(ranges.len() <= 9 && ranges.windows(2).all(|pair| pair[0].1 < pair[1].0), "{ranges:?}");
                for step in 0..720 {
                    let share = f64::from(step % 7 + 1) / 7.0;
                    let (at_ra, at_dec) = towards(ra, dec, radius / 3600.0 * share, f64::from(step) / 2.0);
                    assert!(separation([ra, dec, at_ra, at_dec]) * 3600.0 <= radius * (1.0 + 1e-6) + 1e-9);
                    let at = cell(at_ra, at_dec).unwrap();
                    let within = ranges.iter().any(|(from, to)| (*from..*to).contains(&at));
                    assert!(within, "{at_ra} {at_dec} of {radius}\" around {ra} {dec}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_on_the_sky_has_no_cell() {
        assert_eq!(cell(f64::NAN, 0.0), None);
        assert_eq!(cell(0.0, 90.000_1), None);
        assert_eq!(around(f64::INFINITY, 0.0, 1.0), []);
        assert_eq!(cell(-1.0, 10.0), cell(359.0, 10.0));
    }
}
