//! The columns of `fp_hists`, photometry forced at the object's place.

use crate::avro::cell::Cell::{self, Int, Real};
use crate::avro::columns::{Column, column};

use super::Row;
use super::candidate;

/// Name, lowest and highest value.
const DRAWN: &[(&str, f64, f64)] = &[
    ("sciinpseeing", 1.4, 4.0),
    ("scibckgnd", 100.0, 900.0),
    ("scisigpix", 5.0, 20.0),
    ("adpctdif1", 0.1, 1.0),
    ("adpctdif2", 0.1, 1.0),
    ("forcediffimfluxunc", 5.0, 40.0),
    ("distnr", 0.05, 12.0),
    ("magnr", 16.0, 21.5),
    ("sigmagnr", 0.01, 0.1),
    ("chinr", 0.3, 4.0),
    ("sharpnr", -0.3, 0.3),
];

pub(super) fn find(name: &str) -> Option<Column<Row>> {
    let own = match name {
        // In data numbers, at a zero point of 26 mag. Nothing seen is noise around zero.
        "forcediffimflux" => Some(column(|row: &Row| match row.sight.magnitude {
            Some(magnitude) => Real(10f64.powf((26.0 - magnitude) / 2.5)),
            None => Real(row.sight.noise.normal(50, 20.0)),
        })),
        "procstatus" => Some(column(|_: &Row| Cell::text("0"))),
        "ranr" => Some(column(|row: &Row| Real(row.object.ra))),
        "decnr" => Some(column(|row: &Row| Real(row.object.dec))),
        "rfid" => Some(column(|row: &Row| Int(row.field() * 1_000_000 + row.rcid()))),
        _ => None,
    };
    own.or_else(|| candidate::drawn(DRAWN, name)).or_else(|| candidate::find(name))
}
