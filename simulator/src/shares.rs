//! Which alert is of which kind, and what makes it so.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::avro::cell::Cell;
use crate::avro::edit::Edit;
use crate::{Shares, Survey};

/// What was done to an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Plain,
    BadQuality,
    IBand,
    NullRb,
    /// An exact repeat of an earlier alert, whatever kind that was.
    Duplicate,
}

impl Kind {
    pub(crate) fn draw(shares: &Shares, rng: &mut ChaCha8Rng) -> Kind {
        let mut left: f64 = rng.random();
        let kinds = [
            (Kind::Duplicate, shares.duplicates),
            (Kind::BadQuality, shares.bad_quality),
            (Kind::IBand, shares.i_band),
            (Kind::NullRb, shares.null_rb),
        ];
        for (kind, share) in kinds {
            if left < share {
                return kind;
            }
            left -= share;
        }
        Kind::Plain
    }

    /// What to change in a plain alert.
    pub(crate) fn edits(self, survey: Survey, rng: &mut ChaCha8Rng) -> Vec<Edit<'static>> {
        match (self, survey) {
            (Kind::Plain | Kind::Duplicate, _) => vec![],
            (Kind::BadQuality, Survey::Ztf) if rng.random() => {
                vec![("candidate.nbad", Cell::Int(rng.random_range(1..=4)))]
            }
            (Kind::BadQuality, Survey::Ztf) => vec![("candidate.rb", Cell::Real(rng.random_range(0.0..0.54)))],
            (Kind::BadQuality, Survey::Lsst) if rng.random() => {
                vec![("diaSource.pixelFlags_bad", Cell::Boolean(true))]
            }
            (Kind::BadQuality, Survey::Lsst) => {
                vec![("diaSource.reliability", Cell::Real(rng.random_range(0.0..0.3)))]
            }
            (Kind::IBand, Survey::Ztf) => vec![("candidate.fid", Cell::Int(3))],
            (Kind::IBand, Survey::Lsst) => vec![("diaSource.band", Cell::text("i"))],
            (Kind::NullRb, Survey::Ztf) => vec![("candidate.rb", Cell::Null)],
            (Kind::NullRb, Survey::Lsst) => vec![("diaSource.reliability", Cell::Null)],
        }
    }
}
