//! The columns of `diaObject`: what the sources so far say of the object.

use crate::avro::cell::Cell::{Int, Null, Real};
use crate::avro::columns::{Column, column};

use super::super::noise::salt;
use super::BANDS;

/// An object after its latest source.
pub(super) struct Row {
    id: i64,
    ra: f64,
    dec: f64,
    first_mjd: f64,
    last_mjd: f64,
    n_sources: usize,
    noise: super::super::noise::Noise,
    bands: [Band; 6],
}

/// Fluxes of one band in nJy. Without sources there is nothing to tell.
#[derive(Default, Clone, Copy)]
struct Band {
    n: usize,
    mean: f64,
    sigma: f64,
    mean_error: f64,
    min: f64,
    max: f64,
    error: f64,
    max_slope: f64,
}

impl Row {
    pub(super) fn new(now: &super::Row, earlier: &[super::Row]) -> Self {
        let sources: Vec<&super::Row> = earlier.iter().chain([now]).collect();
        let bands = std::array::from_fn(|band| {
            let of_band: Vec<&super::Row> = sources.iter().copied().filter(|row| row.sight.band == band).collect();
            Band::new(&of_band)
        });
        Self {
            id: now.object_id,
            ra: now.object.ra,
            dec: now.object.dec,
            first_mjd: sources[0].sight.mjd,
            last_mjd: now.sight.mjd,
            n_sources: sources.len(),
            noise: now.object.noise,
            bands,
        }
    }
}

impl Band {
    fn new(rows: &[&super::Row]) -> Self {
        let n = rows.len();
        if n == 0 {
            return Band::default();
        }
        let fluxes: Vec<f64> = rows.iter().map(|row| row.flux()).collect();
        let mean = fluxes.iter().sum::<f64>() / n as f64;
        let sigma = (fluxes.iter().map(|flux| (flux - mean).powi(2)).sum::<f64>() / n as f64).sqrt();
        let slope = |i: usize| (fluxes[i] - fluxes[i - 1]) / (rows[i].sight.mjd - rows[i - 1].sight.mjd);
        Self {
            n,
            mean,
            sigma,
            mean_error: rows[0].flux_error() / (n as f64).sqrt(),
            min: fluxes.iter().copied().fold(f64::INFINITY, f64::min),
            max: fluxes.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            error: rows.iter().map(|row| row.flux_error()).sum::<f64>() / n as f64,
            max_slope: (1..n).map(slope).fold(0.0, |most, slope| if slope.abs() > most { slope.abs() } else { most }),
        }
    }
}

pub(super) fn find(name: &str) -> Option<Column<Row>> {
    if let Some((band, statistic)) = name.split_once('_')
        && let Some(band) = BANDS.iter().position(|of| *of == band)
    {
        return of_band(band, statistic);
    }
    Some(match name {
        "diaObjectId" => column(|row: &Row| Int(row.id)),
        "ra" => column(|row: &Row| Real(row.ra)),
        "dec" => column(|row: &Row| Real(row.dec)),
        "raErr" | "decErr" => {
            let salt = salt(name);
            column(move |row: &Row| Real(row.noise.between(salt, 1e-6, 5e-5)))
        }
        "ra_dec_Cov" => column(|_: &Row| Null),
        "validityStartMjdTai" | "lastDiaSourceMjdTai" => column(|row: &Row| Real(row.last_mjd)),
        "firstDiaSourceMjdTai" => column(|row: &Row| Real(row.first_mjd)),
        "nDiaSources" => column(|row: &Row| Int(row.n_sources as i64)),
        _ => return None,
    })
}

fn of_band(band: usize, statistic: &str) -> Option<Column<Row>> {
    let value: fn(&Band) -> f64 = match statistic {
        "psfFluxNdata" => return Some(column(move |row: &Row| Int(row.bands[band].n as i64))),
        "psfFluxMean" | "scienceFluxMean" | "fpFluxMean" => |band| band.mean,
        "psfFluxMeanErr" | "scienceFluxMeanErr" | "fpFluxMeanErr" => |band| band.mean_error,
        "psfFluxSigma" => |band| band.sigma,
        "psfFluxMin" => |band| band.min,
        "psfFluxMax" => |band| band.max,
        "psfFluxMaxSlope" => |band| band.max_slope,
        "psfFluxErrMean" => |band| band.error,
        _ => return None,
    };
    Some(column(move |row: &Row| match &row.bands[band] {
        Band { n: 0, .. } => Null,
        band => Real(value(band)),
    }))
}
