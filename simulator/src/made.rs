//! Alerts made up: a sky of objects, exposures that follow each other, and the records that a survey would send.
//!
//! Nothing is remembered between alerts. What an object looks like at some time is computed from the seed and its
//! number, so the history in one alert agrees with the alerts sent before.

mod cutouts;
mod fits;
mod noise;
mod sky;

mod lsst;
mod ztf;

use crate::alerts::Plain;
use crate::avro::container::Writer;
use crate::{Error, Result, Survey};

use sky::Sky;

/// ZTF 4.02 with its parts in place, without descriptions.
pub(crate) const ZTF_SCHEMA: &str = include_str!("../schemas/ztf_4_02.avsc");
/// LSST 10.0, likewise.
pub(crate) const LSST_SCHEMA: &str = include_str!("../schemas/lsst_v10_0.avsc");

pub(crate) struct Made {
    writer: Writer,
    survey: Survey,
    packets: Packets,
    next: u64,
}

enum Packets {
    Ztf(Box<ztf::Packets>),
    Lsst(Box<lsst::Packets>),
}

impl Made {
    pub(crate) fn new(survey: Survey, start_mjd: f64, seed: u64) -> Result<Self> {
        let (json, depth) = match survey {
            Survey::Ztf => (ZTF_SCHEMA, 0.0),
            Survey::Lsst => (LSST_SCHEMA, 3.5),
        };
        let sky = Sky::new(seed, start_mjd, depth);
        let writer = Writer::new(json).map_err(Error::Made)?;
        let packets = match survey {
            Survey::Ztf => ztf::Packets::new(&writer.schema, sky, seed).map(|p| Packets::Ztf(Box::new(p))),
            Survey::Lsst => lsst::Packets::new(&writer.schema, sky, seed).map(|p| Packets::Lsst(Box::new(p))),
        };
        let packets = packets.map_err(Error::Made)?;
        Ok(Self { writer, survey, packets, next: 0 })
    }

    /// The next alert, under this id.
    pub(crate) fn next(&mut self, id: i64) -> Result<Plain<'_>> {
        let datum = match &self.packets {
            Packets::Ztf(packets) => packets.datum(self.next, id),
            Packets::Lsst(packets) => packets.datum(self.next, id),
        };
        self.next += 1;
        Ok(Plain {
            writer: &self.writer,
            survey: self.survey,
            datum: datum.map_err(Error::Made)?,
            id,
            id_paths: &[],
            name: format!("made alert {id}"),
        })
    }
}
