//! The alerts' containers of a folder, a tarball, or a single file.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use flate2::read::MultiGzDecoder;

use super::archive;
use crate::{Error, Result};

/// A container and the name of the file it is from.
type Named = (String, Vec<u8>);

/// Gives containers: a folder's in the order of its paths, a tarball's and an archive's in their own.
pub(super) struct Files {
    /// Of the file that is being read, when it has several.
    inside: Option<Box<dyn Iterator<Item = Result<Named>> + Send>>,
    paths: std::vec::IntoIter<PathBuf>,
}

impl Files {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let mut paths = Vec::new();
        match path.is_dir() {
            true => list(path, &mut paths)?,
            false => paths.push(path.to_path_buf()),
        }
        paths.sort();
        Ok(Self { inside: None, paths: paths.into_iter() })
    }

    fn read(&mut self, path: &Path) -> Result<()> {
        let name = path.display().to_string();
        let open = || File::open(path).map(BufReader::new).map_err(Error::at(path));
        self.inside = Some(match () {
            () if name.ends_with(".avro") => {
                Box::new(std::iter::once(fs::read(path).map_err(Error::at(path)).map(|bytes| (name, bytes))))
            }
            () if name.ends_with(".parquet") => {
                Box::new(archive::read(path)?.map(move |bytes| bytes.map(|bytes| (name.clone(), bytes))))
            }
            () if name.ends_with(".tar.gz") || name.ends_with(".tgz") => {
                Box::new(unpack(path, Box::new(MultiGzDecoder::new(open()?))))
            }
            () if name.ends_with(".tar") => Box::new(unpack(path, Box::new(open()?))),
            () => return Err(Error::UnknownFormat { path: path.to_path_buf() }),
        });
        Ok(())
    }
}

impl Iterator for Files {
    type Item = Result<Named>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(next) = self.inside.as_mut().and_then(Iterator::next) {
                return Some(next);
            }
            let path = self.paths.next()?;
            if let Err(error) = self.read(&path) {
                return Some(Err(error));
            }
        }
    }
}

fn list(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::at(folder))? {
        let path = entry.map_err(Error::at(folder))?.path();
        if path.is_dir() {
            list(&path, paths)?;
        } else if path.extension().is_some_and(|extension| extension == "avro" || extension == "parquet") {
            paths.push(path);
        }
    }
    Ok(())
}

/// Reads a tarball ahead, a few members, in a thread of its own. It ends when the receiver is dropped.
fn unpack(path: &Path, bytes: Box<dyn Read + Send>) -> impl Iterator<Item = Result<Named>> + Send + use<> {
    let path = path.to_path_buf();
    let (send, receive) = sync_channel(16);
    thread::spawn(move || {
        if let Err(cause) = send_members(bytes, &send) {
            // The receiver may be gone; then nobody wants to know.
            let _ = send.send(Err(cause));
        }
    });
    receive.into_iter().map(move |member| member.map_err(Error::at(&path)))
}

fn send_members(bytes: Box<dyn Read + Send>, send: &SyncSender<io::Result<Named>>) -> io::Result<()> {
    for entry in tar::Archive::new(bytes).entries()? {
        let mut entry = entry?;
        let name = entry.path()?.display().to_string();
        if !entry.header().entry_type().is_file() || !name.ends_with(".avro") {
            continue;
        }
        let mut member = Vec::with_capacity(entry.size() as usize);
        entry.read_to_end(&mut member)?;
        if send.send(Ok((name, member))).is_err() {
            break;
        }
    }
    Ok(())
}
