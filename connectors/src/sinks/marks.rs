//! By what the rows of a sink are told apart there, beside where they were read.
//!
//! | sink | mark |
//! |---|---|
//! | archive | the column that names an alert, if the rows have it |
//! | topic of Kafka | none: a record's headers say where it was read |
//! | topic in a folder | hash of the encoded alert |
//! | wide-column table | the row key |
//! | outbox | none: a message says where its alert was read |

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use bytes::Bytes;
use redpoll_core::digest::bytes_hash;
use redpoll_core::runtime::Marker;
use redpoll_core::sink::{Error, OpenSink, Rows, SinkKind};

use super::table;
use super::topic::{encoder, payload};
use crate::avro::Encoder;
use crate::widecolumn::RowKey;

/// Makes marks of rows for a sink, nothing is opened there.
pub fn marker(sink: &OpenSink, id: Option<&str>) -> Result<Option<Box<dyn Marker>>, Error> {
    let name = sink.spec.name.clone();
    Ok(match sink.spec.kind {
        SinkKind::Delta => match id.and_then(|id| sink.schema.index_of(id).ok()) {
            Some(column) => Some(Box::new(Ids { name, column })),
            None => None,
        },
        SinkKind::Outbox => None,
        SinkKind::Topic if sink.spec.url.starts_with("kafka://") => None,
        SinkKind::Topic => {
            let (encoder, columns) = encoder(sink)?;
            Some(Box::new(Alerts { name, encoder, columns }))
        }
        SinkKind::Store => {
            let options = table::options(&sink.spec)?;
            let columns = payload(&sink.schema).1;
            Some(Box::new(Keys { name, key: options.row_key, columns }))
        }
    })
}

/// The mark of an encoded alert.
pub(super) fn alert_mark(datum: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&bytes_hash(datum).to_be_bytes())
}

/// Names of alerts as text, whatever type the column has.
pub(super) fn id_marks(column: &ArrayRef) -> Result<Vec<Option<Bytes>>, arrow::error::ArrowError> {
    let texts = cast(column, &DataType::Utf8)?;
    let texts = texts.as_string::<i32>();
    Ok(texts.iter().map(|text| text.map(|text| Bytes::copy_from_slice(text.as_bytes()))).collect())
}

struct Ids {
    name: String,
    column: usize,
}

impl Marker for Ids {
    fn marks(&self, rows: &Rows) -> Result<Vec<Option<Bytes>>, Error> {
        id_marks(rows.batch.column(self.column)).map_err(|error| Error::new(&self.name, error))
    }
}

struct Alerts {
    name: String,
    encoder: Encoder,
    columns: Vec<usize>,
}

impl Marker for Alerts {
    fn marks(&self, rows: &Rows) -> Result<Vec<Option<Bytes>>, Error> {
        let batch = rows.batch.project(&self.columns).map_err(|error| Error::new(&self.name, error))?;
        let datums = self.encoder.datums(&batch).map_err(|error| Error::new(&self.name, error))?;
        Ok(datums.iter().map(|datum| Some(alert_mark(&datum))).collect())
    }
}

struct Keys {
    name: String,
    key: RowKey,
    columns: Vec<usize>,
}

impl Marker for Keys {
    fn marks(&self, rows: &Rows) -> Result<Vec<Option<Bytes>>, Error> {
        let batch = rows.batch.project(&self.columns).map_err(|error| Error::new(&self.name, error))?;
        let keys = self.key.render(&batch).map_err(|error| Error::new(&self.name, error))?;
        Ok(keys.into_iter().map(Result::ok).collect())
    }
}
