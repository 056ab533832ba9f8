//! What the fuzz targets share: a table of alerts, and the check of what a decoder made of a record.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use redpoll_connectors::avro::{Decoder, Format, ReaderSchema};
use redpoll_core::source::Record;

/// The columns of the ZTF pipeline.
pub static TABLE: LazyLock<ReaderSchema> = LazyLock::new(|| {
    ReaderSchema::from_avsc(include_str!("../../pipelines/ztf/schemas/alert.avsc")).expect("our own schema is good")
});

/// Every type of Avro, nested.
pub const WRITER: &str = r#"{"type":"record","name":"alert","fields":[
    {"name":"candid","type":"long"},{"name":"objectId","type":["null","string"]},
    {"name":"candidate","type":{"type":"record","name":"candidate","fields":[
        {"name":"jd","type":"double"},{"name":"magpsf","type":["float","null"]},{"name":"fid","type":"int"},
        {"name":"extra","type":["null","string",{"type":"map","values":"alert"}]}]}},
    {"name":"prv_candidates","type":["null",{"type":"array","items":["null","candidate"]}]},
    {"name":"cutoutScience","type":["null",{"type":"record","name":"cutout","fields":[
        {"name":"fileName","type":"string"},{"name":"stampData","type":"bytes"}]}]},
    {"name":"md5","type":{"type":"fixed","name":"md5","size":16}},
    {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"kind","type":{"type":"enum","name":"kind","symbols":["A","B"]}}]}"#;

pub fn record(key: Option<&[u8]>, value: &[u8]) -> Record {
    Record {
        topic: Arc::from("alerts"),
        partition: 0,
        offset: 0,
        timestamp: None,
        key: key.map(Bytes::copy_from_slice),
        value: Bytes::copy_from_slice(value),
    }
}

/// Decodes a record: it is in the batch, or it failed, and then none of it is in the batch.
pub fn decode(format: Format, key: Option<&[u8]>, value: &[u8]) {
    let mut decoder = Decoder::new(format, &TABLE, None).expect("the table's types are decoded");
    let decoded = decoder.decode(&[record(key, value)]);
    assert_eq!(decoded.record_of_row.len(), decoded.batch.num_rows());
    assert!(decoded.failed.len() <= 1);
    assert!(decoded.failed.is_empty() || decoded.batch.num_rows() == 0);
}
