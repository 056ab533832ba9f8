//! The members of a tarball. A thread walks the archive once; whoever needs members waits for as many as it needs, so
//! that the first epoch of a large night does not wait for the whole of it.

use std::ops::ControlFlow;
use std::sync::Arc;

use redpoll_core::source::{Error, FileRef};
use tokio::sync::{Mutex, watch};

use super::archive::Packed;
use super::object::Place;

/// What is known of the members so far.
#[derive(Debug, Default)]
struct Members {
    files: Vec<FileRef>,
    /// Bytes of all members up to and with each.
    ends: Vec<u64>,
    end: Option<Result<(), Arc<str>>>,
}

impl Members {
    fn push(&mut self, file: FileRef) {
        // Archives may claim any size.
        self.ends.push(self.ends.last().unwrap_or(&0).saturating_add(file.size));
        self.files.push(file);
    }

    /// Whether it is known which members from `from` on fit into `bytes`.
    fn suffice(&self, from: usize, bytes: u64) -> bool {
        let known = self.files.len() > from && self.ends.last().is_some_and(|end| end - self.before(from) > bytes);
        known || self.end.is_some()
    }

    /// The members from `from` on that fit into `bytes`, and one more.
    fn fitting(&self, from: usize, bytes: u64) -> Vec<FileRef> {
        let n = self.ends.iter().skip(from).take_while(|end| *end - self.before(from) <= bytes).count();
        self.files.iter().skip(from).take(n + 1).cloned().collect()
    }

    /// Bytes of the members before `from`.
    fn before(&self, from: usize) -> u64 {
        from.checked_sub(1).and_then(|i| self.ends.get(i)).copied().unwrap_or(0)
    }
}

/// The walk, begun when it is first needed, and again after one that failed. It ends early when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Listing {
    members: Mutex<Option<watch::Receiver<Members>>>,
}

impl Listing {
    /// The members from `from` on: all, or at least those that fit into `bytes` and one more.
    pub async fn after(&self, place: &Place, gzip: bool, from: usize, bytes: u64) -> Result<Vec<FileRef>, Error> {
        let mut walking = self.members.lock().await;
        let mut members = match walking.take() {
            Some(members) => members,
            None => walk(place, gzip).await?,
        };
        let known = members.wait_for(|members| members.suffice(from, bytes)).await;
        let known = known.map_err(|_| place.error("the reading of its members ended without a word"))?;
        if let Some(Err(reason)) = &known.end {
            return Err(place.error(reason));
        }
        let files = known.fitting(from, bytes);
        drop(known);
        *walking = Some(members);
        Ok(files)
    }
}

async fn walk(place: &Place, gzip: bool) -> Result<watch::Receiver<Members>, Error> {
    let packed = Packed::open(place, gzip).await?;
    let (sender, members) = watch::channel(Members::default());
    tokio::task::spawn_blocking(move || {
        let walked = packed.walk(|member| {
            let file = FileRef { at: member.file.at.filter(|_| !gzip), ..member.file };
            sender.send_modify(|members| members.push(file));
            Ok(if sender.is_closed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        });
        sender.send_modify(|members| members.end = Some(walked.map_err(|error| error.to_string().into())));
    });
    Ok(members)
}
