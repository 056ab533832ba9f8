//! Real alerts again, as often as needed.
//!
//! A source that fits in memory is read once; a larger one is read from its start again each time it runs out.

mod archive;
mod files;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::alerts::Plain;
use crate::avro;
use crate::avro::container::{Containers, Writer};
use crate::avro::schema::Record;
use crate::avro::walk::find;
use crate::avro::wire::Reader;
use crate::{Error, Result, Survey};

use files::Files;

/// Bytes of datums kept. A night's tarball is larger, a test set smaller.
const MAX_KEPT_BYTES: usize = 256 << 20;

pub(crate) struct Replay {
    path: PathBuf,
    files: Files,
    containers: Containers,
    /// Of the file read last, not yet given out.
    waiting: VecDeque<Arc<Real>>,
    /// All alerts so far, while they fit.
    kept: Vec<Arc<Real>>,
    kept_bytes: usize,
    /// Number of the next alert to give out of `kept`, once it is complete.
    cycle: Option<usize>,
    n_given: u64,
    current: Option<Arc<Real>>,
}

struct Real {
    writer: Arc<Writer>,
    survey: Survey,
    datum: Vec<u8>,
    id: i64,
    id_paths: Vec<&'static str>,
    name: String,
}

impl Replay {
    /// Reads the first alert, so that a wrong source is known before any sink is opened.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let mut replay = Self {
            path: path.to_path_buf(),
            files: Files::open(path)?,
            containers: Containers::default(),
            waiting: VecDeque::new(),
            kept: Vec::new(),
            kept_bytes: 0,
            cycle: None,
            n_given: 0,
            current: None,
        };
        let first = replay.read()?;
        replay.waiting.push_front(first);
        Ok(replay)
    }

    pub(crate) fn next(&mut self) -> Result<Plain<'_>> {
        let real = match self.cycle {
            Some(at) => {
                self.cycle = Some((at + 1) % self.kept.len());
                self.kept[at].clone()
            }
            None => self.read()?,
        };
        self.n_given += 1;
        let Real { writer, survey, datum, id, id_paths, name } = &**self.current.insert(real);
        Ok(Plain { writer, survey: *survey, datum: datum.clone(), id: *id, id_paths, name: name.clone() })
    }

    fn read(&mut self) -> Result<Arc<Real>> {
        loop {
            if let Some(real) = self.waiting.pop_front() {
                return Ok(real);
            }
            match self.files.next() {
                Some(file) => {
                    let (name, bytes) = file?;
                    self.take(name, &bytes)?;
                }
                None if self.n_given == 0 => return Err(Error::NoAlerts { path: self.path.clone() }),
                None if self.kept_bytes <= MAX_KEPT_BYTES => {
                    self.cycle = Some(1 % self.kept.len());
                    return Ok(self.kept[0].clone());
                }
                None => self.files = Files::open(&self.path)?,
            }
        }
    }

    fn take(&mut self, name: String, bytes: &[u8]) -> Result<()> {
        let wrong = |cause| Error::Replayed { name: name.clone(), cause };
        let (writer, datums) = self.containers.read(bytes).map_err(wrong)?;
        let writer = Arc::new(writer);
        let survey = survey(&writer).ok_or_else(|| Error::UnknownSurvey { name: name.clone() })?;
        for datum in datums {
            let (id, id_paths) = id(&writer.schema, survey, &datum).map_err(wrong)?;
            let (writer, name) = (writer.clone(), name.clone());
            let real = Arc::new(Real { writer, survey, datum, id, id_paths, name });
            self.kept_bytes += real.datum.len();
            if self.kept_bytes <= MAX_KEPT_BYTES {
                self.kept.push(real.clone());
            } else {
                self.kept.clear();
            }
            self.waiting.push_back(real);
        }
        Ok(())
    }
}

/// Whose alerts a schema describes, by the name of their main record.
fn survey(writer: &Writer) -> Option<Survey> {
    let known = [(Survey::Ztf, "candidate"), (Survey::Lsst, "diaSource")];
    known.into_iter().find(|(_, record)| writer.schema.field(record).is_ok()).map(|(survey, _)| survey)
}

/// The alert's id and all places that hold it. An LSST alert of no asteroid has no `ssSource`, and early schemas have
/// `alertId` where later ones have `diaSourceId`.
fn id(schema: &Record, survey: Survey, datum: &[u8]) -> avro::Result<(i64, Vec<&'static str>)> {
    let paths: &[&'static str] = match survey {
        Survey::Ztf => &["candid", "candidate.candid"],
        Survey::Lsst => &["diaSource.diaSourceId", "diaSourceId", "alertId", "ssSource.diaSourceId"],
    };
    let (spans, _) = find(schema, datum, paths)?;
    let found: Vec<_> = paths.iter().zip(spans).filter_map(|(path, span)| Some((*path, span?.range))).collect();
    let (_, range) = found.first().ok_or_else(|| avro::Error::NoField(paths[0].to_string()))?;
    let id = Reader::new(&datum[range.clone()]).long()?;
    Ok((id, found.into_iter().map(|(path, _)| path).collect()))
}
