//! Where alerts go.

mod folder;
mod kafka;
mod tarball;

use crate::{Alert, Config, Result, Sink};

/// Takes alerts in order. What was written is whole and durable only after `finish` returned.
pub(crate) trait Write {
    fn write(&mut self, alert: &Alert) -> Result<()>;
    fn finish(self: Box<Self>) -> Result<()>;
}

pub(crate) fn open(config: &Config) -> Result<Vec<Box<dyn Write>>> {
    let extension = config.framing.extension();
    let open = |sink: &Sink| -> Result<Box<dyn Write>> {
        Ok(match sink {
            Sink::Folder(path) => Box::new(folder::Folder::open(path, extension)?),
            Sink::Tarball(path) => Box::new(tarball::Tarball::open(path, extension)?),
            Sink::Kafka(kafka) => Box::new(kafka::Topic::open(kafka)?),
        })
    };
    config.sinks.iter().map(open).collect()
}

/// A file's name: the number keeps the order, and keeps repeats apart.
fn file_name(alert: &Alert, extension: &str) -> String {
    format!("{:08}_{}.{extension}", alert.sequence, alert.id)
}
