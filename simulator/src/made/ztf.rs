//! ZTF alert packets, schema 4.02.

mod candidate;
mod forced;

use std::sync::Arc;

use crate::avro::Result;
use crate::avro::cell::Cell;
use crate::avro::columns::{Columns, column};
use crate::avro::schema::Record;

use super::cutouts::{Pool, Stamp};
use super::sky::{Class, N_OBJECTS, Object, Sight, Sky};

/// Alerts of one exposure, seconds between exposures, exposures in a night.
const ALERTS_PER_EXPOSURE: u64 = 300;
const EXPOSURE_SECONDS: f64 = 40.0;
const EXPOSURES_PER_NIGHT: u64 = 850;

/// g and r, of `ugrizy`: `fid` 1 and 2 are their numbers.
const BANDS: [usize; 2] = [1, 2];

const MJD_TO_JD: f64 = 2_400_000.5;

/// A detection, or an upper limit where nothing was seen.
struct Row {
    object: Object,
    sight: Sight,
    /// `candid`. An upper limit has none.
    id: Option<i64>,
    /// Number of the exposure.
    exposure: u64,
    past: Past,
}

/// What was known of an object.
#[derive(Clone, Copy, Default)]
struct Past {
    n_detections: u64,
    first_jd: f64,
}

impl Row {
    fn jd(&self) -> f64 {
        self.sight.mjd + MJD_TO_JD
    }

    /// Days since 2017-01-01, to a millionth, then the readout channel: as ZTF numbers its images.
    fn pid(&self) -> i64 {
        ((self.sight.mjd - 57_754.0) * 1e6) as i64 * 1000 + self.rcid()
    }

    fn field(&self) -> i64 {
        200 + (self.exposure % 650) as i64
    }

    fn rcid(&self) -> i64 {
        (self.object.index % 64) as i64
    }

    fn is_asteroid(&self) -> bool {
        matches!(self.object.class, Class::Asteroid { .. })
    }
}

pub(super) struct Packets {
    schema: Arc<Record>,
    sky: Sky,
    pool: Pool,
    candidate: Columns<Row>,
    prv_candidates: Columns<Row>,
    fp_hists: Columns<Row>,
    cutout: Columns<Stamp>,
}

impl Packets {
    pub(super) fn new(schema: &Arc<Record>, sky: Sky, seed: u64) -> Result<Self> {
        let stamp = |name: &str| match name {
            "fileName" => Some(column(|stamp: &Stamp| Cell::text(&stamp.name))),
            "stampData" => Some(column(|stamp: &Stamp| Cell::Bytes(&stamp.bytes))),
            _ => None,
        };
        Ok(Self {
            candidate: Columns::new(&schema.field("candidate")?.ty, candidate::find)?,
            prv_candidates: Columns::new(&schema.field("prv_candidates")?.ty, candidate::find)?,
            fp_hists: Columns::new(&schema.field("fp_hists")?.ty, forced::find)?,
            cutout: Columns::new(&schema.field("cutoutScience")?.ty, stamp)?,
            schema: schema.clone(),
            sky,
            pool: Pool::ztf(seed),
        })
    }

    /// The alert with this number, as a datum.
    pub(super) fn datum(&self, number: u64, id: i64) -> Result<Vec<u8>> {
        let (row, history) = self.rows(number, id);
        let mut out = Vec::with_capacity(64 << 10);
        for field in &self.schema.fields {
            match field.name.as_str() {
                "schemavsn" => field.put(&Cell::text("4.02"), &mut out)?,
                "publisher" => field.put(&Cell::text("redpoll simulate"), &mut out)?,
                "objectId" => field.put(&Cell::Text(self.name(&row.object).into()), &mut out)?,
                "candid" => field.put(&Cell::Int(id), &mut out)?,
                "candidate" => self.candidate.put_record(&row, &mut out)?,
                "prv_candidates" | "fp_hists" if history.is_empty() => field.put(&Cell::Null, &mut out)?,
                "prv_candidates" => self.prv_candidates.put_array(&history, &mut out)?,
                "fp_hists" => self.fp_hists.put_array(&history, &mut out)?,
                "cutoutScience" => self.cutout.put_record(&self.stamp(&row, 0, "targ_sci"), &mut out)?,
                "cutoutTemplate" => self.cutout.put_record(&self.stamp(&row, 1, "ref"), &mut out)?,
                "cutoutDifference" => self.cutout.put_record(&self.stamp(&row, 2, "targ_scimref"), &mut out)?,
                other => return Err(crate::avro::Error::NoField(other.to_string())),
            }
        }
        Ok(out)
    }

    /// The detection, and what came before it.
    fn rows(&self, number: u64, id: i64) -> (Row, Vec<Row>) {
        let exposure = number / ALERTS_PER_EXPOSURE;
        let (night, in_night) = (exposure / EXPOSURES_PER_NIGHT, exposure % EXPOSURES_PER_NIGHT);
        let mjd = self.sky.start_mjd + night as f64 + in_night as f64 * EXPOSURE_SECONDS / 86_400.0;
        let object = self.sky.object(number % N_OBJECTS);
        let sight = object.detection(mjd, BANDS[exposure as usize % BANDS.len()]);
        let past = Past::default();
        let history = object.history(&self.sky, &BANDS).into_iter().enumerate().map(|(step, sight)| {
            let row = Row { object, sight, id: None, exposure: step as u64, past };
            Row { id: sight.magnitude.map(|_| row.pid() * 1_000_000 + 15_001), ..row }
        });
        let history: Vec<Row> = history.collect();

        let mut seen = history.iter().filter(|row| row.id.is_some());
        let first_jd = seen.clone().next().map_or(mjd + MJD_TO_JD, Row::jd);
        let n_seen = seen.by_ref().count() as u64 + 1;
        let past = match object.class {
            // Known for years, unlike what is new or was elsewhere.
            Class::Variable { .. } => Past {
                n_detections: n_seen + 3 + object.noise.below(20, 300),
                first_jd: first_jd - object.noise.between(21, 30.0, 1500.0),
            },
            _ => Past { n_detections: n_seen, first_jd },
        };
        (Row { object, sight, id: Some(id), exposure, past }, history)
    }

    /// `ZTF25` and seven letters.
    fn name(&self, object: &Object) -> String {
        let mut rest = self.sky.designation(object);
        let mut letters = [b'a'; 7];
        for letter in letters.iter_mut().rev() {
            *letter += (rest % 26) as u8;
            rest /= 26;
        }
        format!("ZTF25{}", String::from_utf8_lossy(&letters))
    }

    fn stamp(&self, row: &Row, number: usize, what: &str) -> Stamp {
        let name = format!("candid{}_pid{}_{what}.fits.gz", row.id.unwrap_or_default(), row.pid());
        Stamp { name, bytes: self.pool.deal(row.sight.noise)[number].clone() }
    }
}
