//! A hundred thousand damaged alerts of both surveys in all framings: each is decoded or set aside, none costs another
//! record, none costs more memory than its bytes may.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::array::RecordBatch;
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use redpoll_core::source::Record;

use super::{fixture, pipeline, record};
use crate::avro::{Codec, Decoder, Encoder, Format, ReaderSchema, Timestamps};
use crate::peak;

/// Of each framing of each survey.
const RECORDS: usize = 12_500;
/// Records of one batch; a good one stands before and after them.
const BATCH: usize = 25;
/// What decoding one batch may hold at a time, beside the records: a record may expand to a million values and more.
const MAX_BYTES: usize = 128 << 20;
const SEED: u64 = 0x5eed;

/// Good alerts in one framing, and how they are read.
struct Sample {
    name: String,
    format: Format,
    reader: ReaderSchema,
    records: Vec<Record>,
    /// Where the bytes of the alert begin: what lies before is damaged seldom, since a new schema takes long to read.
    begins: usize,
}

/// Alerts without their stamps, which are most of the bytes and hold nothing to decode.
fn alerts(survey: &str) -> RecordBatch {
    let (source, reader) = match survey {
        "ztf" => (fixture("ztf_multi_3.avro"), pipeline("ztf")),
        _ => {
            let source = fixture("../lsst/fink_out_lsst_7.avro");
            let reader = ReaderSchema::from_records(&Format::Container, std::slice::from_ref(&source)).unwrap();
            (source, reader)
        }
    };
    let names = reader.fields().iter().map(|field| field.name().clone()).filter(|name| !name.starts_with("cutout"));
    let names: Vec<_> = names.collect();
    let mut decoder = Decoder::new(Format::Container, &reader, Some(&names)).unwrap();
    let decoded = decoder.decode(&[source]);
    assert_eq!(decoded.failed, []);
    // The first LSST alert has a history of 345 detections.
    let first = usize::from(survey == "lsst");
    decoded.batch.slice(first, 3)
}

async fn samples(survey: &str, folder: &std::path::Path) -> Vec<Sample> {
    let batch = alerts(survey);
    let reader = ReaderSchema::from(batch.schema().as_ref());
    let encoder = Encoder::new(batch.schema(), "alert", Timestamps::Logical).unwrap();
    let schema = encoder.schema_json();
    std::fs::write(folder.join("7.avsc"), &schema).unwrap();
    let confluent = Format::open("confluent", None, folder.to_str()).unwrap();
    let plain = |payloads: crate::avro::Payloads| payloads.iter().map(record).collect::<Vec<_>>();
    let keyed = |record: Record| Record { key: Some(schema.clone()), ..record };
    let mut containers = plain(encoder.containers(&batch, Codec::Null).unwrap());
    containers.extend(plain(encoder.containers(&batch, Codec::Snappy).unwrap()));
    containers.extend(plain(encoder.containers(&batch, Codec::Deflate).unwrap()));
    let datums = plain(encoder.datums(&batch).unwrap());
    let text = String::from_utf8_lossy(&schema).into_owned().into();
    let all = [
        ("container", Format::Container, containers, schema.len()),
        ("confluent", confluent, plain(encoder.confluent(&batch, 7).unwrap()), 5),
        ("schemaless", Format::Schemaless(text), datums.clone(), 0),
        ("fink", Format::Fink, datums.into_iter().map(keyed).collect(), 0),
    ];
    let mut samples = Vec::new();
    for (framing, format, records, begins) in all {
        format.prepare(&records).await.unwrap();
        samples.push(Sample { name: format!("{survey} {framing}"), format, reader: reader.clone(), records, begins });
    }
    samples
}

/// A long as Avro has it.
fn varint(value: i64) -> Vec<u8> {
    let mut left = ((value << 1) ^ (value >> 63)) as u64;
    let mut bytes = Vec::new();
    while left >= 0x80 {
        bytes.push(left as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
    bytes
}

fn damage(rng: &mut StdRng, bytes: &mut Vec<u8>, from: usize, other: &[u8]) {
    let from = from.min(bytes.len().saturating_sub(1));
    if bytes.is_empty() {
        return;
    }
    let at = rng.random_range(from..bytes.len());
    let len = bytes.len();
    let upto = |rng: &mut StdRng, most: usize| rng.random_range(at..=(at + most).min(len));
    match rng.random_range(0..7) {
        0 => (0..rng.random_range(1..8)).for_each(|_| {
            let at = rng.random_range(from..bytes.len());
            bytes[at] ^= 1 << rng.random_range(0..8);
        }),
        1 => bytes.truncate(at),
        2 => {
            let new: Vec<u8> = (0..rng.random_range(1..16)).map(|_| rng.random()).collect();
            drop(bytes.splice(at..at, new));
        }
        3 => drop(bytes.drain(at..upto(rng, 64))),
        // A length or a count that is far too large, or negative.
        4 => {
            let blown_up =
                [1 << 60, 1 << 40, 1 << 31, (1 << 31) - 1, 1 << 21, 70_000, -1, -(1 << 40), i64::MAX, i64::MIN];
            let length = varint(*blown_up.choose(rng).unwrap());
            drop(bytes.splice(at..at + 1, length));
        }
        5 => {
            let end = upto(rng, 8);
            bytes[at..end].iter_mut().for_each(|byte| *byte = rng.random());
        }
        _ => {
            let start = rng.random_range(0..other.len());
            let piece = &other[start..(start + 200).min(other.len())];
            let end = upto(rng, 200);
            drop(bytes.splice(at..end, piece.iter().copied()));
        }
    }
}

/// The n-th damaged record.
fn damaged(sample: &Sample, n: usize) -> Record {
    let mut rng = StdRng::seed_from_u64(SEED + n as u64);
    let good = sample.records.choose(&mut rng).unwrap();
    let other = sample.records.choose(&mut rng).unwrap();
    let mut record = good.clone();
    if rng.random_range(0..50) == 0 {
        // The schema, where the record has one, or the framing.
        match &good.key {
            Some(key) => {
                let mut bytes = key.to_vec();
                damage(&mut rng, &mut bytes, 0, key);
                record.key = Some(bytes.into());
            }
            None => {
                let mut bytes = good.value.to_vec();
                damage(&mut rng, &mut bytes, 0, &other.value);
                record.value = bytes.into();
            }
        }
        return record;
    }
    let mut bytes = good.value.to_vec();
    for _ in 0..rng.random_range(1..3) {
        damage(&mut rng, &mut bytes, sample.begins, &other.value);
    }
    record.value = Bytes::from(bytes);
    record
}

/// Numbers of records decoded and set aside.
fn check(sample: &Sample) -> (usize, usize) {
    let mut decoder = Decoder::new(sample.format.clone(), &sample.reader, None).unwrap();
    let good = sample.records[0].clone();
    let alone = decoder.decode(std::slice::from_ref(&good)).batch;
    assert_eq!(alone.num_rows(), 1, "{}", sample.name);
    let (mut n_decoded, mut n_failed) = (0, 0);
    for first in (0..RECORDS).step_by(BATCH) {
        let mut records = vec![good.clone()];
        records.extend((first..first + BATCH).map(|n| damaged(sample, n)));
        records.push(good.clone());
        let (decoded, bytes) = peak::during(|| catch_unwind(AssertUnwindSafe(|| decoder.decode(&records))));
        let place = format!("{}, records {first}..{}", sample.name, first + BATCH);
        let decoded = decoded.unwrap_or_else(|_| panic!("{place}: the decoder panics"));
        assert!(bytes < MAX_BYTES, "{place}: decoding holds {bytes} bytes");
        let rows = decoded.batch.num_rows();
        assert_eq!(decoded.record_of_row.len(), rows, "{place}");
        assert_eq!(decoded.batch.slice(0, 1), alone, "{place}");
        assert_eq!(decoded.batch.slice(rows - 1, 1), alone, "{place}");
        let failed: Vec<_> = decoded.failed.iter().map(|failed| failed.record).collect();
        assert!(decoded.failed.iter().all(|failed| !failed.error.is_empty()), "{place}");
        // A container may hold several alerts, or none.
        let with_rows: std::collections::BTreeSet<_> = decoded.record_of_row.iter().map(|row| *row as usize).collect();
        assert!(failed.iter().all(|record| !with_rows.contains(record)), "{place}");
        if !matches!(sample.format, Format::Container) {
            assert_eq!(rows + failed.len(), records.len(), "{place}");
        }
        n_failed += failed.len();
        n_decoded += BATCH - failed.len();
    }
    (n_decoded, n_failed)
}

#[tokio::test]
async fn a_hundred_thousand_damaged_alerts_are_each_decoded_or_set_aside() {
    let mut total = 0;
    for survey in ["ztf", "lsst"] {
        let folder = tempfile::tempdir().unwrap();
        for sample in samples(survey, folder.path()).await {
            let begun = std::time::Instant::now();
            let (decoded, failed) = check(&sample);
            eprintln!("{}: {decoded} decoded, {failed} set aside, {:?}", sample.name, begun.elapsed());
            assert!(decoded > 0 && failed > RECORDS / 10, "{}: {decoded} decoded, {failed} set aside", sample.name);
            total += decoded + failed;
        }
    }
    assert_eq!(total, 100_000);
}

#[test]
fn a_packed_block_that_would_fill_the_memory_is_refused_early() {
    // 300 MB of zeros deflate to a megabyte: more than a record may unpack to.
    let batch = alerts("ztf").slice(0, 1);
    let encoder = Encoder::new(batch.schema(), "alert", Timestamps::Logical).unwrap();
    let container = encoder.containers(&batch, Codec::Deflate).unwrap().get(0).unwrap();
    let sync = container[container.len() - 16..].to_vec();
    let header = container.windows(16).position(|window| window == sync).unwrap() + 16;
    let mut packed = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    let zeros = vec![0; 1 << 20];
    for _ in 0..300 {
        std::io::Write::write_all(&mut packed, &zeros).unwrap();
    }
    let packed = packed.finish().unwrap();
    let mut bomb = container[..header].to_vec();
    bomb.extend(varint(1));
    bomb.extend(varint(packed.len() as i64));
    bomb.extend(packed);
    bomb.extend(sync);
    let reader = ReaderSchema::from(batch.schema().as_ref());
    let mut decoder = Decoder::new(Format::Container, &reader, None).unwrap();
    let (decoded, bytes) = peak::during(|| decoder.decode(&[record(bomb)]));
    assert!(decoded.failed[0].error.contains("unpacks to more than the limit"), "{:?}", decoded.failed);
    assert!(bytes < 800 << 20, "{bytes} bytes");
}
