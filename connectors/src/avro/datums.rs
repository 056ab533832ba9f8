//! The alerts of an object container as they are encoded, one by one: equal alerts of one writer have equal bytes.

use bytes::Bytes;

use super::container::{self, Blocks};
use super::cursor::{Cursor, allowed_values};
use super::schema::Schema;
use super::skip::Skips;

/// The bytes of each alert. They share memory with the file, or with its unpacked blocks.
pub fn datums(file: &Bytes) -> Result<Vec<Bytes>, String> {
    let header = container::header(file).map_err(|error| error.to_string())?;
    let json = std::str::from_utf8(header.schema).map_err(|error| format!("its schema is no text: {error}"))?;
    let schema = Schema::parse(json).map_err(|error| format!("its schema: {error}"))?;
    let skips = Skips::new(&schema);
    let (mut blocks, mut datums) = (Blocks::new(file, &header), Vec::new());
    while let Some(block) = blocks.next().map_err(|error| error.to_string())? {
        let mut cursor = Cursor::new(&block.source, block.range.clone(), allowed_values(block.range.len()));
        for _ in 0..block.n_alerts {
            let start = cursor.position();
            skips.pass(schema.root, &mut cursor).map_err(|fault| fault.to_string())?;
            datums.push(block.source.slice(start..cursor.position()));
        }
        if cursor.left() > 0 {
            return Err(format!("{} bytes are left in a block after its last alert", cursor.left()));
        }
    }
    Ok(datums)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{RecordBatch, StringArray};
    use arrow::datatypes::{DataType, Field, Schema as ArrowSchema};

    use super::*;
    use crate::avro::{Codec, Encoder, Timestamps};

    #[test]
    fn a_container_gives_back_each_alert_as_it_was_encoded() {
        let schema = Arc::new(ArrowSchema::new(vec![Field::new("objectId", DataType::Utf8, true)]));
        let names = StringArray::from(vec![Some("ZTF18a"), None, Some("ZTF18abcdefgh")]);
        let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(names)]).unwrap();
        let encoder = Encoder::new(schema, "alert", Timestamps::Text).unwrap();
        let wanted: Vec<Bytes> = encoder.datums(&batch).unwrap().iter().collect();
        for codec in [Codec::Null, Codec::Deflate, Codec::Snappy] {
            let file = encoder.container(std::slice::from_ref(&batch), codec).unwrap();
            assert_eq!(datums(&file).unwrap(), wanted, "{codec:?}");
            assert!(datums(&file.slice(..file.len() - 20)).is_err(), "{codec:?}");
        }
    }
}
