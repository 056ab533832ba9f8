//! LSST alert packets, schema 10.0.

mod object;
mod solar_system;
mod source;

use std::sync::Arc;

use crate::avro::cell::Cell::{self, Int, Null};
use crate::avro::columns::Columns;
use crate::avro::schema::Record;
use crate::avro::{Error, Result};

use super::cutouts::Pool;
use super::sky::{Class, N_OBJECTS, Object, Sight, Sky};

/// Alerts of one visit, seconds between visits.
const ALERTS_PER_VISIT: u64 = 10_000;
const VISIT_SECONDS: f64 = 39.0;

const BANDS: [&str; 6] = ["u", "g", "r", "i", "z", "y"];
/// Visits change the band in this order, of `BANDS`.
const SEQUENCE: [usize; 6] = [1, 2, 3, 4, 5, 0];

/// AB magnitude of 1 nJy.
const ZERO_POINT: f64 = 31.4;

/// A detection, or the flux forced at the object's place where nothing was seen.
struct Row {
    object: Object,
    sight: Sight,
    id: i64,
    visit: i64,
    /// `diaObjectId`, or `ssObjectId` of an asteroid.
    object_id: i64,
}

impl Row {
    /// nJy.
    fn flux(&self) -> f64 {
        match self.sight.magnitude {
            Some(magnitude) => 10f64.powf((ZERO_POINT - magnitude) / 2.5),
            None => self.sight.noise.normal(50, self.flux_error()),
        }
    }

    /// A fifth of the flux at the limit.
    fn flux_error(&self) -> f64 {
        10f64.powf((ZERO_POINT - self.sight.limit) / 2.5) / 5.0
    }

    fn band(&self) -> &'static str {
        BANDS[self.sight.band]
    }

    fn detector(&self) -> i64 {
        (self.object.index % 189) as i64
    }

    fn is_asteroid(&self) -> bool {
        matches!(self.object.class, Class::Asteroid { .. })
    }
}

pub(super) struct Packets {
    schema: Arc<Record>,
    sky: Sky,
    pool: Pool,
    source: Columns<Row>,
    prv_sources: Columns<Row>,
    prv_forced: Columns<Row>,
    object: Columns<object::Row>,
    ss_source: Columns<Row>,
    orbit: Columns<Row>,
}

impl Packets {
    pub(super) fn new(schema: &Arc<Record>, sky: Sky, seed: u64) -> Result<Self> {
        let ty = |name| schema.field(name).map(|field| &field.ty);
        Ok(Self {
            source: Columns::new(ty("diaSource")?, source::find)?,
            prv_sources: Columns::new(ty("prvDiaSources")?, source::find)?,
            prv_forced: Columns::new(ty("prvDiaForcedSources")?, source::find)?,
            object: Columns::new(ty("diaObject")?, object::find)?,
            ss_source: Columns::new(ty("ssSource")?, solar_system::find_source)?,
            orbit: Columns::new(ty("mpc_orbits")?, solar_system::find_orbit)?,
            schema: schema.clone(),
            sky,
            pool: Pool::lsst(seed),
        })
    }

    /// The alert with this number, as a datum.
    pub(super) fn datum(&self, number: u64, id: i64) -> Result<Vec<u8>> {
        let row = self.row(number, id);
        let (forced, seen) = self.history(&row);
        let [science, template, difference] = self.pool.deal(row.sight.noise);
        let mut out = Vec::with_capacity(160 << 10);
        for field in &self.schema.fields {
            match field.name.as_str() {
                "diaSourceId" => field.put(&Int(id), &mut out)?,
                "observation_reason" => field.put(&Cell::text("science"), &mut out)?,
                "target_name" => field.put(&Cell::text("lowdust"), &mut out)?,
                "diaSource" => self.source.put_record(&row, &mut out)?,
                // An alert carries either an object or what is known of the asteroid.
                "diaObject" if row.is_asteroid() => field.put(&Null, &mut out)?,
                "ssSource" | "mpc_orbits" if !row.is_asteroid() => field.put(&Null, &mut out)?,
                "prvDiaSources" if seen.is_empty() => field.put(&Null, &mut out)?,
                "prvDiaForcedSources" if forced.is_empty() => field.put(&Null, &mut out)?,
                "prvDiaSources" => self.prv_sources.put_array(&seen, &mut out)?,
                "prvDiaForcedSources" => self.prv_forced.put_array(&forced, &mut out)?,
                "diaObject" => self.object.put_record(&object::Row::new(&row, &seen), &mut out)?,
                "ssSource" => self.ss_source.put_record(&row, &mut out)?,
                "mpc_orbits" => self.orbit.put_record(&row, &mut out)?,
                "cutoutScience" => field.put(&Cell::Bytes(science), &mut out)?,
                "cutoutTemplate" => field.put(&Cell::Bytes(template), &mut out)?,
                "cutoutDifference" => field.put(&Cell::Bytes(difference), &mut out)?,
                other => return Err(Error::NoField(other.to_string())),
            }
        }
        Ok(out)
    }

    fn row(&self, number: u64, id: i64) -> Row {
        let visit = number / ALERTS_PER_VISIT;
        let mjd = self.sky.start_mjd + visit as f64 * VISIT_SECONDS / 86_400.0;
        let object = self.sky.object(number % N_OBJECTS);
        let sight = object.detection(mjd, SEQUENCE[visit as usize % SEQUENCE.len()]);
        let object_id = 169_000_000_000_000_000 + self.sky.designation(&object) as i64;
        Row { object, sight, id, visit: visit_of(&sight), object_id }
    }

    /// Forced photometry of all earlier visits, and the sources of those that saw something. None for an asteroid.
    fn history(&self, row: &Row) -> (Vec<Row>, Vec<Row>) {
        if row.is_asteroid() {
            return (vec![], vec![]);
        }
        let earlier = |(step, sight): (usize, Sight)| Row {
            id: row.object_id + 1 + step as i64 * (N_OBJECTS as i64) * 600_000,
            visit: visit_of(&sight),
            sight,
            ..*row
        };
        let looks = row.object.history(&self.sky, &SEQUENCE).into_iter().enumerate();
        let forced: Vec<Row> = looks.map(earlier).collect();
        let seen = forced.iter().filter(|row| row.sight.magnitude.is_some()).map(|row| Row { ..*row }).collect();
        (forced, seen)
    }
}

/// Visits are numbered by time here, in units of ten seconds.
fn visit_of(sight: &Sight) -> i64 {
    2_025_000_000_000 + ((sight.mjd - 61_000.0) * 8640.0) as i64
}
