//! What `tests/compare_fastavro.py` compares: `avro_dump IN.avro OUT` decodes a container with its own schema to
//! `OUT.arrow` (Arrow IPC), and encodes it again to `OUT.avro` (a container, snappy) and `OUT.fink` (per alert: length
//! and bytes of the key, then of the value, lengths as 4 bytes little endian).

use std::fs;
use std::io::Write as _;

use arrow::ipc::writer::FileWriter;
use redpoll_connectors::avro::{Codec, Decoder, Encoder, Format, ReaderSchema, Timestamps};
use redpoll_core::source::Record;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [input, output] = args.as_slice() else { return Err("say IN.avro and OUT".into()) };
    let value = fs::read(input)?.into();
    let record = Record { topic: "file".into(), partition: 0, offset: 0, timestamp: None, key: None, value };
    let records = [record];
    let reader = ReaderSchema::from_records(&Format::Container, &records)?;
    let decoded = Decoder::new(Format::Container, &reader, None)?.decode(&records);
    if let [failed, ..] = decoded.failed.as_slice() {
        return Err(format!("{input}: {}", failed.error).into());
    }
    let batch = decoded.batch;
    let mut writer = FileWriter::try_new(fs::File::create(format!("{output}.arrow"))?, &batch.schema())?;
    writer.write(&batch)?;
    writer.finish()?;
    let encoder = Encoder::new(batch.schema(), "fink.alert", Timestamps::Logical)?;
    fs::write(format!("{output}.avro"), encoder.container(std::slice::from_ref(&batch), Codec::Snappy)?)?;
    let mut fink = fs::File::create(format!("{output}.fink"))?;
    for value in encoder.datums(&batch)?.iter() {
        for part in [encoder.schema_json(), value] {
            fink.write_all(&u32::try_from(part.len())?.to_le_bytes())?;
            fink.write_all(&part)?;
        }
    }
    Ok(())
}
