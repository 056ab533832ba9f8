//! The members of a tarball. A thread walks the archive once; whoever needs members waits for as many as it needs, so
//! that the first epoch of a large night does not wait for the whole of it.

use std::ops::ControlFlow;
use std::sync::Arc;

use redpoll_core::source::{Error, FileRef};
use tokio::sync::{OnceCell, watch};

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
        self.ends.push(self.ends.last().unwrap_or(&0) + file.size);
        self.files.push(file);
    }

    /// Whether it is known which members from `from` on fit into `bytes`.
    fn suffice(&self, from: usize, bytes: u64) -> bool {
        let before = from.checked_sub(1).and_then(|i| self.ends.get(i)).unwrap_or(&0);
        let known = self.files.len() > from && self.ends.last().is_some_and(|end| end - before > bytes);
        known || self.end.is_some()
    }
}

/// The walk, begun when it is first needed. It ends early when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Listing {
    members: OnceCell<watch::Receiver<Members>>,
}

impl Listing {
    /// The members from `from` on: all, or at least those that fit into `bytes` and one more.
    pub async fn after(&self, place: &Place, gzip: bool, from: usize, bytes: u64) -> Result<Vec<FileRef>, Error> {
        let members = self.members.get_or_try_init(|| walk(place, gzip)).await?;
        let mut members = members.clone();
        let known = members.wait_for(|members| members.suffice(from, bytes)).await;
        let known = known.map_err(|_| place.error("the reading of its members ended without a word"))?;
        match &known.end {
            Some(Err(reason)) => Err(place.error(reason)),
            _ => Ok(known.files.iter().skip(from).cloned().collect()),
        }
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
