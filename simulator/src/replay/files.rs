//! The Avro files of a folder, of a tarball, or of a single file.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use flate2::read::MultiGzDecoder;

use crate::{Error, Result};

/// Gives each file's name and bytes: a folder's in the order of their paths, a tarball's in its own.
pub(super) enum Files {
    Paths(std::vec::IntoIter<PathBuf>),
    Tarball { path: PathBuf, members: Receiver<io::Result<(String, Vec<u8>)>> },
}

impl Files {
    pub(super) fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            let mut paths = Vec::new();
            list(path, &mut paths)?;
            paths.sort();
            return Ok(Files::Paths(paths.into_iter()));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".avro") {
            return Ok(Files::Paths(vec![path.to_path_buf()].into_iter()));
        }
        let open = || File::open(path).map(BufReader::new).map_err(Error::at(path));
        let bytes: Box<dyn Read + Send> = match () {
            () if name.ends_with(".tar.gz") || name.ends_with(".tgz") => Box::new(MultiGzDecoder::new(open()?)),
            () if name.ends_with(".tar") => Box::new(open()?),
            () => return Err(Error::UnknownFormat { path: path.to_path_buf() }),
        };
        Ok(Files::Tarball { path: path.to_path_buf(), members: unpack(bytes) })
    }
}

impl Iterator for Files {
    type Item = Result<(String, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Files::Paths(paths) => {
                let path = paths.next()?;
                let name = path.display().to_string();
                Some(fs::read(&path).map(|bytes| (name, bytes)).map_err(Error::at(&path)))
            }
            Files::Tarball { path, members } => Some(members.recv().ok()?.map_err(Error::at(path))),
        }
    }
}

fn list(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::at(folder))? {
        let path = entry.map_err(Error::at(folder))?.path();
        if path.is_dir() {
            list(&path, paths)?;
        } else if path.extension().is_some_and(|extension| extension == "avro") {
            paths.push(path);
        }
    }
    Ok(())
}

/// Reads a tarball ahead, a few members, in a thread of its own. It ends when the receiver is dropped.
fn unpack(bytes: Box<dyn Read + Send>) -> Receiver<io::Result<(String, Vec<u8>)>> {
    let (send, receive) = sync_channel(16);
    thread::spawn(move || {
        if let Err(cause) = send_members(bytes, &send) {
            // The receiver may be gone; then nobody wants to know.
            let _ = send.send(Err(cause));
        }
    });
    receive
}

fn send_members(bytes: Box<dyn Read + Send>, send: &SyncSender<io::Result<(String, Vec<u8>)>>) -> io::Result<()> {
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
