//! Alerts of a topic in a folder: the name of a file says which split wrote it, its alerts are told by their bytes.

use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use redpoll_core::objects::Stores;
use redpoll_core::sink::{Error, SinkSpec};

use super::{Asked, Contents, Found};
use crate::avro::datums;
use crate::sinks::marks::alert_mark;
use crate::sinks::topic::{author_of, has_author};

pub(super) async fn open(sink: &SinkSpec, asked: Asked<'_>, stores: &Stores) -> Result<Contents, Error> {
    let name = sink.name.clone();
    let failed = move |reason: String| Error::new(&name, reason);
    let location = stores.locate(&sink.url).map_err(|error| failed(error.to_string()))?;
    let (store, root) = (location.store, location.path);
    let (job, uid) = (asked.job.to_owned(), asked.job_uid.to_owned());
    let listed = store.list(Some(&root)).map_err({
        let failed = failed.clone();
        move |error| failed(error.to_string())
    });
    let rows = listed.try_filter_map(move |object| {
        let file = object.location.filename().unwrap_or_default().to_owned();
        let author = author_of(&file, &job, &uid);
        // A file that no job wrote is read by consumers all the same.
        let asked = author.is_some() || file.ends_with(".avro") && !has_author(&file);
        async move { Ok(asked.then_some((object.location, file, author))) }
    });
    let rows = rows.and_then(move |(path, file, author)| {
        let (store, failed) = (store.clone(), failed.clone());
        async move {
            let read = async { store.get(&path).await?.bytes().await };
            let bytes = read.await.map_err(|error| failed(format!("{file}: {error}")))?;
            let found = |mark| Found {
                epoch: author.map(|(epoch, ..)| epoch),
                place: author.map(|(_, split, place)| (split, place)),
                mark,
                at: file.clone(),
                ours: author.is_some(),
                ..Found::default()
            };
            // What cannot be read holds no alert for any reader: one row stands for it.
            Ok(match datums(&bytes) {
                Ok(datums) => datums.iter().map(|datum| found(Some(alert_mark(datum)))).collect(),
                Err(reason) => vec![Found { at: format!("{file}, which is damaged: {reason}"), ..found(None) }],
            })
        }
    });
    Ok(Contents { rows: rows.boxed(), shortened: Vec::new() })
}
