//! One file per alert.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Write, file_name};
use crate::{Alert, Error, Result};

pub(super) struct Folder {
    path: PathBuf,
    extension: &'static str,
}

impl Folder {
    pub(super) fn open(path: &Path, extension: &'static str) -> Result<Self> {
        fs::create_dir_all(path).map_err(Error::at(path))?;
        Ok(Self { path: path.to_path_buf(), extension })
    }
}

impl Write for Folder {
    /// Writes beside the name and renames: who lists the folder never sees half an alert.
    fn write(&mut self, alert: &Alert) -> Result<()> {
        let name = file_name(alert, self.extension);
        let (part, path) = (self.path.join(format!(".{name}.part")), self.path.join(name));
        fs::write(&part, &alert.value).map_err(Error::at(&part))?;
        fs::rename(&part, &path).map_err(Error::at(&path))
    }

    fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
