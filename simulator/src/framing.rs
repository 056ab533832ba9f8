//! From a datum to a Kafka message.

use bytes::Bytes;

use crate::Framing;
use crate::avro::container::Writer;

impl Framing {
    /// The key, if there is one, and the value.
    pub(crate) fn frame(self, writer: &Writer, datum: Vec<u8>) -> (Option<Bytes>, Bytes) {
        match self {
            Framing::Ocf => (None, writer.contain(&datum).into()),
            Framing::Confluent { schema_id } => {
                let mut value = Vec::with_capacity(datum.len() + 5);
                value.push(0);
                value.extend_from_slice(&schema_id.to_be_bytes());
                value.extend_from_slice(&datum);
                (None, value.into())
            }
            Framing::Schemaless => (None, datum.into()),
            Framing::Fink => (Some(writer.json.clone()), datum.into()),
        }
    }

    /// What a file of one alert ends in. Only a container is an Avro file.
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Framing::Ocf => "avro",
            Framing::Confluent { .. } | Framing::Schemaless | Framing::Fink => "bin",
        }
    }
}
