//! The normal distribution.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// The share of a standard normal distribution below `z`.
pub(super) fn below(z: f64) -> f64 {
    let x = z * FRAC_1_SQRT_2;
    if x < 0.0 { 0.5 * erfc(-x) } else { 1.0 - 0.5 * erfc(x) }
}

/// The complementary error function of a number that is not negative, to 14 digits (Abramowitz & Stegun 1964, 7.1.6 and
/// 7.1.14).
fn erfc(x: f64) -> f64 {
    match x {
        _ if x < 2.5 => {
            let (mut term, mut sum, mut n) = (x, x, 1.0);
            while term > sum * 1e-17 {
                term *= 2.0 * x * x / (2.0 * n + 1.0);
                sum += term;
                n += 1.0;
            }
            1.0 - 2.0 / PI.sqrt() * (-x * x).exp() * sum
        }
        _ => {
            let fraction = (1..=60).rev().fold(x, |below, k| x + f64::from(k) / 2.0 / below);
            (-x * x).exp() / (PI.sqrt() * fraction)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::below;

    #[test]
    fn shares_are_those_of_scipy() {
        for (z, share) in [
            (-6.0, 9.865876450376946e-10),
            (-3.6, 1.5910859015753364e-4),
            (-1.0, 0.15865525393145707),
            (0.0, 0.5),
            (0.3, 0.6179114221889526),
            (2.0, 0.9772498680518208),
        ] {
            assert!((below(z) / share - 1.0).abs() < 1e-12, "{z}: {}", below(z));
        }
    }
}
