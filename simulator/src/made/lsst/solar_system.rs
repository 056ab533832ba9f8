//! The columns of `ssSource` and `mpc_orbits`, of asteroids only.

use crate::avro::cell::Cell::{self, Int, Null, Real};
use crate::avro::columns::{Column, column};

use super::super::noise::salt;
use super::Row;

/// Of `ssSource`: name, lowest and highest value, in degrees, au, au/day, mag, arcsec as the schema has them.
const SOURCE: &[(&str, f64, f64)] = &[
    ("eclLambda", 0.0, 360.0),
    ("eclBeta", -20.0, 20.0),
    ("galLon", 0.0, 360.0),
    ("galLat", -90.0, 90.0),
    ("elongation", 60.0, 180.0),
    ("phaseAngle", 0.0, 30.0),
    ("topoRange", 0.8, 3.5),
    ("topoRangeRate", -0.02, 0.02),
    ("helioRange", 1.5, 3.5),
    ("helioRangeRate", -0.01, 0.01),
    ("ephVmag", 18.0, 24.0),
    ("ephRate", 0.05, 0.4),
    ("ephRateRa", -0.4, 0.4),
    ("ephRateDec", -0.2, 0.2),
    ("ephOffset", 0.0, 0.5),
    ("ephOffsetRa", -0.5, 0.5),
    ("ephOffsetDec", -0.5, 0.5),
    ("ephOffsetAlongTrack", -0.5, 0.5),
    ("ephOffsetCrossTrack", -0.5, 0.5),
    ("helio_x", -3.0, 3.0),
    ("helio_y", -3.0, 3.0),
    ("helio_z", -1.0, 1.0),
    ("helio_vx", -0.01, 0.01),
    ("helio_vy", -0.01, 0.01),
    ("helio_vz", -0.005, 0.005),
    ("helio_vtot", 0.008, 0.015),
    ("topo_x", -3.0, 3.0),
    ("topo_y", -3.0, 3.0),
    ("topo_z", -1.0, 1.0),
    ("topo_vx", -0.02, 0.02),
    ("topo_vy", -0.02, 0.02),
    ("topo_vz", -0.01, 0.01),
    ("topo_vtot", 0.008, 0.03),
];

/// Of `mpc_orbits`: name, lowest and highest value, in au, degrees, days, mag.
const ORBIT: &[(&str, f64, f64)] = &[
    ("arc_length_total", 100.0, 9000.0),
    ("arc_length_sel", 100.0, 9000.0),
    ("a", 2.1, 3.3),
    ("q", 1.7, 2.8),
    ("e", 0.0, 0.3),
    ("i", 0.0, 25.0),
    ("node", 0.0, 360.0),
    ("argperi", 0.0, 360.0),
    ("peri_time", 60_000.0, 62_000.0),
    ("mean_anomaly", 0.0, 360.0),
    ("period", 1100.0, 2200.0),
    ("mean_motion", 0.16, 0.33),
    ("a_unc", 1e-9, 1e-6),
    ("q_unc", 1e-9, 1e-6),
    ("e_unc", 1e-9, 1e-6),
    ("i_unc", 1e-7, 1e-5),
    ("node_unc", 1e-7, 1e-4),
    ("argperi_unc", 1e-7, 1e-4),
    ("peri_time_unc", 1e-6, 1e-3),
    ("mean_anomaly_unc", 1e-7, 1e-4),
    ("period_unc", 1e-6, 1e-3),
    ("mean_motion_unc", 1e-10, 1e-7),
    ("h", 12.0, 20.0),
    ("g", 0.1, 0.2),
    ("not_normalized_rms", 0.2, 0.8),
    ("normalized_rms", 0.3, 1.0),
    ("earth_moid", 0.5, 2.0),
];

pub(super) fn find_source(name: &str) -> Option<Column<Row>> {
    drawn(SOURCE, name).or_else(|| {
        Some(match name {
            "diaSourceId" => column(|row: &Row| Int(row.id)),
            "ssObjectId" => column(|row: &Row| Int(row.object_id)),
            "designation" => column(|row: &Row| Cell::Text(designation(row).into())),
            "ephRa" => column(|row: &Row| Real(row.object.ra)),
            "ephDec" => column(|row: &Row| Real(row.object.dec)),
            "diaDistanceRank" => column(|_: &Row| Int(1)),
            _ => return None,
        })
    })
}

pub(super) fn find_orbit(name: &str) -> Option<Column<Row>> {
    drawn(ORBIT, name).or_else(|| {
        Some(match name {
            "id" => column(|row: &Row| Int(row.object.index as i64)),
            "designation" | "packed_primary_provisional_designation" | "unpacked_primary_provisional_designation" => {
                column(|row: &Row| Cell::Text(designation(row).into()))
            }
            "orbit_type_int" => column(|_: &Row| Int(11)),
            "u_param" => column(|_: &Row| Int(0)),
            "nopp" | "nobs_total" | "nobs_total_sel" => {
                column(|row: &Row| Int(5 + row.object.noise.below(60, 200) as i64))
            }
            "epoch_mjd" => column(|_: &Row| Real(61_000.0)),
            "mpc_orb_jsonb" | "created_at" | "updated_at" | "fitting_datetime" => column(|_: &Row| Null),
            // Forces other than gravity are not fitted for main-belt asteroids.
            _ if ["yarkovsky", "srp", "a1", "a2", "a3", "dt"].contains(&name.trim_end_matches("_unc")) => {
                column(|_: &Row| Null)
            }
            _ => return None,
        })
    })
}

fn drawn(table: &[(&str, f64, f64)], name: &str) -> Option<Column<Row>> {
    let (_, low, high) = *table.iter().find(|(of, ..)| *of == name)?;
    let salt = salt(name);
    Some(column(move |row: &Row| Real(row.object.noise.between(salt, low, high))))
}

/// As the Minor Planet Center writes a provisional one.
fn designation(row: &Row) -> String {
    let letter = |salt| char::from(b'A' + row.object.noise.below(salt, 24) as u8);
    format!("2025 {}{}{}", letter(61), letter(62), row.object.index)
}
