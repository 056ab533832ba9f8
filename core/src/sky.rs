//! Geometry on the sky.

/// Great-circle distance by Vincenty's formula (Survey Review 23, 1975, for a sphere), which keeps its precision at
/// tiny, right and opposite angles, where the cosine and haversine formulae lose theirs. All in degrees.
pub fn separation([ra1, dec1, ra2, dec2]: [f64; 4]) -> f64 {
    let (sin1, cos1) = dec1.to_radians().sin_cos();
    let (sin2, cos2) = dec2.to_radians().sin_cos();
    let (sin_ra, cos_ra) = (ra2.to_radians() - ra1.to_radians()).sin_cos();
    let across = cos2 * sin_ra;
    let along = cos1 * sin2 - sin1 * cos2 * cos_ra;
    let towards = sin1 * sin2 + cos1 * cos2 * cos_ra;
    across.hypot(along).atan2(towards).to_degrees()
}
