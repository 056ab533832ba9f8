//! The columns of `diaSource` (also of earlier ones) and of `prvDiaForcedSources`.

use crate::avro::cell::Cell::{self, Boolean, Int, Null, Real};
use crate::avro::columns::{Column, column};

use super::super::noise::salt;
use super::Row;

/// Name, lowest and highest value. `reliability` is above the usual cut.
const DRAWN: &[(&str, f64, f64)] = &[
    ("raErr", 1e-6, 5e-5),
    ("decErr", 1e-6, 5e-5),
    ("ra_dec_Cov", -1e-10, 1e-10),
    ("x", 20.0, 4050.0),
    ("xErr", 0.01, 0.8),
    ("y", 20.0, 3980.0),
    ("yErr", 0.01, 0.8),
    ("psfChi2", 1200.0, 2200.0),
    ("templateFlux", -500.0, 20_000.0),
    ("templateFluxErr", 30.0, 120.0),
    ("ixx", 0.05, 0.3),
    ("iyy", 0.05, 0.3),
    ("ixy", -0.05, 0.05),
    ("ixxPSF", 0.15, 0.25),
    ("iyyPSF", 0.15, 0.25),
    ("ixyPSF", -0.02, 0.02),
    ("extendedness", 0.0, 1.0),
    ("reliability", 0.4, 1.0),
    ("trailLength", 0.3, 1.5),
    ("trailAngle", -90.0, 90.0),
];

/// What a point source that was measured at once does not have.
const NULL: &[&str] = &[
    "parentDiaSourceId",
    "psfLnL",
    "trailRaErr",
    "trailDecErr",
    "trailLengthErr",
    "trailAngleErr",
    "trailChi2",
    "dipoleMeanFlux",
    "dipoleMeanFluxErr",
    "dipoleFluxDiff",
    "dipoleFluxDiffErr",
    "dipoleLength",
    "dipoleAngle",
    "dipoleChi2",
    "timeWithdrawnMjdTai",
];

const FALSE: &[&str] = &["isNegative", "isDipole", "dipoleFitAttempted", "glint_trail"];

pub(super) fn find(name: &str) -> Option<Column<Row>> {
    if let Some((_, low, high)) = DRAWN.iter().find(|(of, ..)| *of == name) {
        let salt = salt(name);
        return Some(column(move |row: &Row| Real(row.sight.noise.between(salt, *low, *high))));
    }
    if NULL.contains(&name) {
        return Some(column(|_: &Row| Null));
    }
    if FALSE.contains(&name) || name.contains("_flag") || name.starts_with("pixelFlags") {
        return Some(column(|_: &Row| Boolean(false)));
    }
    measured(name)
}

fn measured(name: &str) -> Option<Column<Row>> {
    Some(match name {
        "diaSourceId" | "diaForcedSourceId" => column(|row: &Row| Int(row.id)),
        "visit" => column(|row: &Row| Int(row.visit)),
        "detector" => column(|row: &Row| Int(row.detector())),
        "diaObjectId" => column(|row: &Row| Int(if row.is_asteroid() { 0 } else { row.object_id })),
        "ssObjectId" => column(|row: &Row| Int(if row.is_asteroid() { row.object_id } else { 0 })),
        "midpointMjdTai" => column(|row: &Row| Real(row.sight.mjd)),
        // The alert is out a minute and a half after the shutter closed.
        "timeProcessedMjdTai" => column(|row: &Row| Real(row.sight.mjd + 90.0 / 86_400.0)),
        "ra" | "trailRa" => column(|row: &Row| Real(row.object.ra + row.sight.noise.between(51, -1e-5, 1e-5))),
        "dec" | "trailDec" => column(|row: &Row| Real(row.object.dec + row.sight.noise.between(52, -1e-5, 1e-5))),
        "psfFlux" => column(|row: &Row| Real(row.flux())),
        "apFlux" | "trailFlux" | "scienceFlux" => {
            let salt = salt(name);
            column(move |row: &Row| Real(row.flux() + row.sight.noise.normal(salt, row.flux_error())))
        }
        "psfFluxErr" | "trailFluxErr" | "scienceFluxErr" => column(|row: &Row| Real(row.flux_error())),
        "apFluxErr" => column(|row: &Row| Real(2.5 * row.flux_error())),
        "snr" => column(|row: &Row| Real(row.flux() / row.flux_error())),
        "psfNdata" => column(|_: &Row| Int(41 * 41)),
        "trailNdata" | "dipoleNdata" => column(|_: &Row| Int(0)),
        "bboxSize" => column(|row: &Row| Int(8 + row.sight.noise.below(53, 30) as i64)),
        "band" => column(|row: &Row| Cell::text(row.band())),
        _ => return None,
    })
}
