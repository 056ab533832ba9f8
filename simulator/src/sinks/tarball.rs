//! All alerts in one tarball, as surveys publish a night.

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{Write, file_name};
use crate::{Alert, Error, Result};

enum Output {
    Plain(BufWriter<File>),
    Gzip(Box<GzEncoder<BufWriter<File>>>),
}

impl io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Output::Plain(output) => output.write(bytes),
            Output::Gzip(output) => output.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Output::Plain(output) => output.flush(),
            Output::Gzip(output) => output.flush(),
        }
    }
}

pub(super) struct Tarball {
    path: PathBuf,
    /// Written here, renamed when whole.
    part: PathBuf,
    extension: &'static str,
    tar: tar::Builder<Output>,
}

impl Tarball {
    pub(super) fn open(path: &Path, extension: &'static str) -> Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let part = path.with_file_name(format!(".{name}.part"));
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(Error::at(folder))?;
        }
        let file = BufWriter::with_capacity(1 << 20, File::create(&part).map_err(Error::at(&part))?);
        let output = match name.ends_with(".gz") || name.ends_with(".tgz") {
            // Most bytes are cutouts, compressed already: a better level costs much and gains nothing.
            true => Output::Gzip(Box::new(GzEncoder::new(file, Compression::fast()))),
            false => Output::Plain(file),
        };
        Ok(Self { path: path.to_path_buf(), part, extension, tar: tar::Builder::new(output) })
    }

    fn close(self) -> io::Result<()> {
        let mut file = match self.tar.into_inner()? {
            Output::Plain(file) => file,
            Output::Gzip(encoder) => encoder.finish()?,
        };
        io::Write::flush(&mut file)?;
        fs::rename(&self.part, &self.path)
    }
}

impl Write for Tarball {
    fn write(&mut self, alert: &Alert) -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(alert.value.len() as u64);
        header.set_mode(0o644);
        let name = file_name(alert, self.extension);
        self.tar.append_data(&mut header, name, alert.value.as_ref()).map_err(Error::at(&self.path))
    }

    fn finish(self: Box<Self>) -> Result<()> {
        let path = self.path.clone();
        self.close().map_err(Error::at(&path))
    }
}
