//! The columns of `candidate` and `prv_candidates`.

use crate::avro::cell::Cell::{self, Int, Null, Real};
use crate::avro::columns::{Column, column};

use super::super::noise::{Noise, salt};
use super::super::sky::Class;
use super::Row;

/// Of any exposure: name, lowest and highest value.
const OF_EXPOSURES: &[(&str, f64, f64)] = &[
    ("magzpsci", 25.5, 26.5),
    ("magzpsciunc", 1e-6, 1e-5),
    ("magzpscirms", 0.01, 0.05),
    ("clrcoeff", -0.1, 0.1),
    ("clrcounc", 1e-6, 2e-5),
    ("zpclrcov", -1e-5, 0.0),
    ("zpmed", 25.5, 26.5),
    ("clrmed", 0.4, 0.8),
    ("clrrms", 0.1, 0.3),
    ("jdstartref", 2_458_200.0, 2_458_300.0),
    ("jdendref", 2_458_300.0, 2_458_500.0),
];

/// Of a detection: null in an upper limit. `rb` is above the usual cut.
const OF_DETECTIONS: &[(&str, f64, f64)] = &[
    ("xpos", 10.0, 3060.0),
    ("ypos", 10.0, 3070.0),
    ("chipsf", 0.8, 3.0),
    ("sigmagap", 0.02, 0.3),
    ("sigmagapbig", 0.03, 0.4),
    ("distnr", 0.05, 12.0),
    ("magnr", 16.0, 21.5),
    ("sigmagnr", 0.01, 0.1),
    ("chinr", 0.3, 4.0),
    ("sharpnr", -0.3, 0.3),
    ("sky", -1.0, 1.0),
    ("magdiff", -0.2, 0.2),
    ("fwhm", 1.4, 4.0),
    ("classtar", 0.3, 1.0),
    ("mindtoedge", 10.0, 1500.0),
    ("magfromlim", 0.1, 4.0),
    ("seeratio", 0.7, 2.0),
    ("aimage", 0.5, 1.5),
    ("bimage", 0.4, 1.2),
    ("aimagerat", 0.3, 0.7),
    ("bimagerat", 0.3, 0.6),
    ("elong", 1.0, 1.6),
    ("rb", 0.56, 1.0),
    ("drb", 0.5, 1.0),
    ("sumrat", 0.6, 1.0),
    ("scorr", 5.0, 60.0),
    ("sgmag1", 16.0, 22.0),
    ("srmag1", 16.0, 22.0),
    ("simag1", 16.0, 22.0),
    ("szmag1", 16.0, 22.0),
    ("sgscore1", 0.0, 1.0),
    ("distpsnr1", 0.05, 10.0),
    ("sgmag2", 16.0, 22.0),
    ("srmag2", 16.0, 22.0),
    ("simag2", 16.0, 22.0),
    ("szmag2", 16.0, 22.0),
    ("sgscore2", 0.0, 1.0),
    ("distpsnr2", 5.0, 20.0),
    ("sgmag3", 16.0, 22.0),
    ("srmag3", 16.0, 22.0),
    ("simag3", 16.0, 22.0),
    ("szmag3", 16.0, 22.0),
    ("sgscore3", 0.0, 1.0),
    ("distpsnr3", 10.0, 30.0),
    ("dsnrms", 1.0, 20.0),
    ("ssnrms", 1.0, 20.0),
    ("dsdiff", -5.0, 5.0),
    ("neargaia", 0.1, 90.0),
    ("neargaiabright", 5.0, 90.0),
    ("maggaia", 14.0, 20.5),
    ("maggaiabright", 10.0, 14.0),
];

pub(super) fn find(name: &str) -> Option<Column<Row>> {
    drawn(OF_EXPOSURES, name)
        .or_else(|| drawn(OF_DETECTIONS, name).map(if_seen))
        .or_else(|| exposure(name))
        .or_else(|| detection(name).map(if_seen))
}

pub(super) fn drawn(table: &[(&str, f64, f64)], name: &str) -> Option<Column<Row>> {
    let (_, low, high) = *table.iter().find(|(of, ..)| *of == name)?;
    let salt = salt(name);
    Some(column(move |row: &Row| Real(row.sight.noise.between(salt, low, high))))
}

fn if_seen(value: Column<Row>) -> Column<Row> {
    column(move |row: &Row| if row.id.is_some() { value(row) } else { Null })
}

/// What every exposure has.
fn exposure(name: &str) -> Option<Column<Row>> {
    Some(match name {
        "jd" => column(|row: &Row| Real(row.jd())),
        "fid" => column(|row: &Row| Int(row.sight.band as i64)),
        "pid" => column(|row: &Row| Int(row.pid())),
        "diffmaglim" => column(|row: &Row| Real(row.sight.limit)),
        "pdiffimfilename" => column(|row: &Row| {
            let (field, rcid) = (row.field(), row.rcid());
            let name = format!("ztf_{:.5}_{field:06}_c{rcid:02}_scimrefdiffimg.fits", row.sight.mjd);
            Cell::Text(name.into())
        }),
        "programpi" => column(|_: &Row| Cell::text("Kulkarni")),
        "programid" => column(|_: &Row| Int(1)),
        "nid" => column(|row: &Row| Int((row.sight.mjd - 57_754.0) as i64)),
        "rcid" => column(|row: &Row| Int(row.rcid())),
        "field" => column(|row: &Row| Int(row.field())),
        "rbversion" => column(|_: &Row| Cell::text("t17_f5_c3")),
        "drbversion" => column(|_: &Row| Cell::text("d6_m7")),
        "rfid" => column(|row: &Row| Int(row.field() * 1_000_000 + row.rcid())),
        "exptime" => column(|_: &Row| Real(30.0)),
        _ => return None,
    })
}

/// What only a detection has.
fn detection(name: &str) -> Option<Column<Row>> {
    Some(match name {
        "candid" => column(|row: &Row| row.id.map_or(Null, Int)),
        "isdiffpos" => column(|row: &Row| {
            let fades = matches!(row.object.class, Class::Variable { .. }) && row.sight.noise.below(30, 2) == 0;
            Cell::text(if fades { "f" } else { "t" })
        }),
        "magpsf" => column(|row: &Row| row.sight.magnitude.map_or(Null, Real)),
        "sigmapsf" => column(|row: &Row| Real(sigma(row))),
        "magap" | "magapbig" => {
            let salt = salt(name);
            column(move |row: &Row| {
                row.sight.magnitude.map_or(Null, |m| Real(m + row.sight.noise.between(salt, -0.1, 0.1)))
            })
        }
        "ra" => column(|row: &Row| Real(row.object.ra + offset(row.sight.noise, 31))),
        "dec" => column(|row: &Row| Real(row.object.dec + offset(row.sight.noise, 32))),
        "ranr" => column(|row: &Row| Real(row.object.ra + offset(row.object.noise, 33))),
        "decnr" => column(|row: &Row| Real(row.object.dec + offset(row.object.noise, 34))),
        "tblid" => column(|row: &Row| Int(row.sight.noise.below(35, 500) as i64)),
        "nneg" => column(|row: &Row| Int(row.sight.noise.below(36, 8) as i64)),
        "nbad" | "tooflag" => column(|_: &Row| Int(0)),
        // Without a known asteroid within 30 arcsec ZTF writes -999.
        "ssdistnr" => {
            column(|row: &Row| Real(if row.is_asteroid() { row.sight.noise.between(37, 0.0, 8.0) } else { -999.0 }))
        }
        "ssmagnr" => column(|row: &Row| match row.object.class {
            Class::Asteroid { magnitude } => Real(magnitude),
            _ => Real(-999.0),
        }),
        "ssnamenr" => column(|row: &Row| match row.is_asteroid() {
            true => Cell::Text((10_000 + row.object.index).to_string().into()),
            false => Null,
        }),
        "ndethist" => column(|row: &Row| Int(row.past.n_detections as i64)),
        "ncovhist" => column(|row: &Row| Int((row.past.n_detections + row.object.noise.below(38, 2000)) as i64)),
        "jdstarthist" => column(|row: &Row| Real(row.past.first_jd)),
        "jdendhist" => column(|row: &Row| Real(row.jd())),
        "objectidps1" | "objectidps2" | "objectidps3" => {
            let salt = salt(name);
            column(move |row: &Row| Int(100_000_000_000_000_000 + row.object.noise.below(salt, 1 << 50) as i64))
        }
        "nmtchps" => column(|row: &Row| Int(row.object.noise.below(39, 20) as i64)),
        "nframesref" => column(|row: &Row| Int(15 + row.object.noise.below(40, 20) as i64)),
        "nmatches" => column(|row: &Row| Int(100 + row.sight.noise.below(41, 2000) as i64)),
        _ => return None,
    })
}

/// Error of a magnitude: 0.2 at the limit, less for what is brighter.
fn sigma(row: &Row) -> f64 {
    let above_limit = row.sight.limit - row.sight.magnitude.unwrap_or(row.sight.limit);
    (0.2 * 10f64.powf(-0.3 * above_limit)).max(0.01)
}

/// Degrees, a third of an arcsecond at most.
fn offset(noise: Noise, salt: u64) -> f64 {
    noise.between(salt, -1e-4, 1e-4)
}
