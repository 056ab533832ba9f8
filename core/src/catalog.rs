//! Catalogues of the sky that alerts are matched with: what a plan says of one, and of a question to it.

use arrow::datatypes::{DataType, Field, Fields};
use serde::{Deserialize, Serialize};

/// The field of each match that no catalogue has: its distance from the alert, in arcseconds.
pub const SEPARATION: &str = "separation";
/// Beyond it, in arcseconds, a match is no match but a survey of its own.
pub const MAX_RADIUS: f64 = 3600.0;

/// A catalogue as a pipeline declares it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CatalogSpec {
    /// As the pipeline calls it.
    pub name: String,
    /// Absolute URL of a Parquet file, a folder of them, a Delta table, or what `redpoll catalog build` made.
    pub url: String,
    /// Columns of the positions, in degrees; by default `ra` and `dec`.
    pub ra: Option<String>,
    pub dec: Option<String>,
    /// The columns that matches have; without any, all.
    pub columns: Vec<String>,
}

/// What of a catalogue does not change: a re-run of an epoch matches with the same rows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Catalog {
    pub spec: CatalogSpec,
    /// `version 12` of a Delta table, else a hash of its files.
    pub lock: String,
}

/// Which rows of a catalogue an alert is given.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cone {
    /// In arcseconds, the rim included.
    pub radius: f64,
    /// All rows in it, the nearest first, or the nearest alone.
    pub all: bool,
}

impl Cone {
    /// The type of a match: a struct of these columns and the separation, or a list of such.
    pub fn returns(&self, columns: &Fields) -> DataType {
        let separation = Field::new(SEPARATION, DataType::Float64, true);
        let kept = columns.iter().filter(|field| field.name() != SEPARATION);
        let nullable = kept.map(|field| field.as_ref().clone().with_nullable(true));
        let row = DataType::Struct(nullable.chain([separation]).collect());
        if self.all { DataType::new_list(row, true) } else { row }
    }
}
