//! Batches to Avro and back, read by our decoder and by apache-avro.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryViewArray, BooleanArray, DictionaryArray, Float32Array, Float64Array, Int32Array};
use arrow::array::{Int64Array, LargeStringArray, ListArray, MapArray, RecordBatch, StringArray, StringViewArray};
use arrow::array::{StructArray, TimestampMicrosecondArray, UInt64Array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Schema, TimeUnit};
use proptest::prelude::*;

use super::{assert_rows, decode, fixture, pipeline, record};
use crate::avro::{Encoder, Format, Payloads, ReaderSchema, Timestamps};

fn by_apache_avro(encoder: &Encoder, payloads: &Payloads) -> Vec<apache_avro::types::Value> {
    let schema = apache_avro::Schema::parse_str(std::str::from_utf8(&encoder.schema_json()).unwrap()).unwrap();
    let reader = apache_avro::reader::datum::GenericDatumReader::builder(&schema).build().unwrap();
    payloads.iter().map(|bytes| reader.read_value(&mut bytes.as_ref()).unwrap()).collect()
}

fn check_round_trip(batch: &RecordBatch) {
    let encoder = Encoder::new(batch.schema(), "fink.alert", Timestamps::Logical).unwrap();
    let payloads = encoder.datums(batch).unwrap();
    assert_rows(batch, 0, &by_apache_avro(&encoder, &payloads));
    let key = encoder.schema_json();
    let records: Vec<_> =
        payloads.iter().map(|value| redpoll_core::source::Record { key: Some(key.clone()), ..record(value) }).collect();
    let decoded = decode(Format::Fink, &ReaderSchema::from(batch.schema().as_ref()), None, &records);
    assert_eq!(decoded.failed, []);
    assert_eq!(decoded.batch, *batch);
}

#[test]
fn real_alerts_round_trip() {
    let records = ["ZTF19acyjzeo.avro", "template_schema_ZTF_3p1.avro", "ztf_multi_3.avro"].map(fixture);
    check_round_trip(&decode(Format::Container, &pipeline("ztf"), None, &records).batch);
}

/// A type that decoding gives, nested at most so deep.
fn any_type(depth: u32) -> BoxedStrategy<DataType> {
    let leaf = prop_oneof![
        Just(DataType::Boolean),
        Just(DataType::Int32),
        Just(DataType::Int64),
        Just(DataType::Float32),
        Just(DataType::Float64),
        Just(DataType::Utf8),
        Just(DataType::BinaryView),
        Just(DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
    ];
    leaf.prop_recursive(depth, 24, 4, |inner| {
        let item = (inner.clone(), any::<bool>());
        prop_oneof![
            item.clone().prop_map(|(kind, null)| DataType::List(Arc::new(Field::new("item", kind, null)))),
            prop::collection::vec(item.clone(), 1..4).prop_map(|kinds| DataType::Struct(named(kinds))),
            item.prop_map(|(kind, null)| {
                let pair = [Field::new("key", DataType::Utf8, false), Field::new("value", kind, null)];
                DataType::Map(Arc::new(Field::new("entries", DataType::Struct(pair.to_vec().into()), false)), false)
            }),
        ]
    })
    .boxed()
}

fn named(kinds: Vec<(DataType, bool)>) -> Fields {
    kinds.into_iter().enumerate().map(|(i, (kind, nullable))| Field::new(format!("f{i}"), kind, nullable)).collect()
}

/// A stream of numbers to make values of: splitmix64, so that a case is its seed.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Numbers of all lengths, so that varints are.
    fn wide(&mut self) -> u64 {
        let bits = self.next() % 65;
        self.next().checked_shr(bits as u32).unwrap_or(0)
    }

    fn text(&mut self) -> String {
        "αβ candidate cutout".chars().skip(self.next() as usize % 4).take(self.next() as usize % 17).collect()
    }

    fn offsets(&mut self, len: usize) -> OffsetBuffer<i32> {
        OffsetBuffer::from_lengths((0..len).map(|_| self.next() as usize % 4))
    }

    fn nulls(&mut self, nullable: bool, len: usize) -> Option<NullBuffer> {
        nullable
            .then(|| (0..len).map(|_| !self.next().is_multiple_of(4)).collect::<NullBuffer>())
            .filter(|n| n.null_count() > 0)
    }

    fn array(&mut self, field: &Field, len: usize) -> ArrayRef {
        let nulls = self.nulls(field.is_nullable(), len);
        let valid = |i: usize| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(i));
        let rows = 0..len;
        match field.data_type() {
            DataType::Boolean => {
                Arc::new(rows.map(|i| valid(i).then(|| self.next().is_multiple_of(2))).collect::<BooleanArray>())
            }
            DataType::Int32 => Arc::new(rows.map(|i| valid(i).then(|| self.wide() as i32)).collect::<Int32Array>()),
            DataType::Int64 => Arc::new(rows.map(|i| valid(i).then(|| self.wide() as i64)).collect::<Int64Array>()),
            DataType::Float32 => {
                Arc::new(rows.map(|i| valid(i).then(|| self.wide() as f32 / 7.0)).collect::<Float32Array>())
            }
            DataType::Float64 => {
                Arc::new(rows.map(|i| valid(i).then(|| self.wide() as f64 / 7.0)).collect::<Float64Array>())
            }
            DataType::Utf8 => Arc::new(rows.map(|i| valid(i).then(|| self.text())).collect::<StringArray>()),
            DataType::BinaryView => {
                Arc::new(rows.map(|i| valid(i).then(|| self.text().into_bytes())).collect::<BinaryViewArray>())
            }
            DataType::Timestamp(..) => {
                let values = rows.map(|i| valid(i).then(|| self.wide() as i64 >> 8));
                Arc::new(values.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
            }
            DataType::List(item) => {
                let offsets = self.offsets(len);
                let items = self.array(item, *offsets.last().unwrap() as usize);
                Arc::new(ListArray::new(item.clone(), offsets, items, nulls))
            }
            DataType::Struct(fields) => {
                let columns = fields.iter().map(|field| self.array(field, len)).collect();
                Arc::new(StructArray::new(fields.clone(), columns, nulls))
            }
            DataType::Map(entries, _) => {
                let offsets = self.offsets(len);
                let n = *offsets.last().unwrap() as usize;
                let DataType::Struct(pair) = entries.data_type() else { panic!() };
                let keys: ArrayRef = Arc::new(StringArray::from_iter_values((0..n).map(|i| format!("key {i}"))));
                let pairs = StructArray::new(pair.clone(), vec![keys, self.array(&pair[1], n)], None);
                Arc::new(MapArray::new(entries.clone(), offsets, pairs, nulls, false))
            }
            other => panic!("{other}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_batch_round_trips(
        kinds in prop::collection::vec((any_type(3), any::<bool>()), 1..5),
        seed in any::<u64>(),
        len in 0_usize..12,
    ) {
        let fields = named(kinds);
        let mut numbers = Numbers(seed);
        let columns = fields.iter().map(|field| numbers.array(field, len)).collect();
        check_round_trip(&RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap());
    }
}

fn datums(name: &str, column: ArrayRef) -> Vec<u8> {
    let schema = Arc::new(Schema::new(vec![Field::new(name, column.data_type().clone(), true)]));
    let batch = RecordBatch::try_new(schema.clone(), vec![column]).unwrap();
    let encoder = Encoder::new(schema, "alert", Timestamps::Logical).unwrap();
    encoder.datums(&batch).unwrap().iter().flatten().collect()
}

#[test]
fn every_layout_of_a_type_gives_the_same_bytes() {
    let plain: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("ztf"), Some("a long name indeed")]));
    let expected = datums("s", plain.clone());
    let layouts: [ArrayRef; 3] = [
        Arc::new(plain.as_any().downcast_ref::<StringArray>().unwrap().iter().collect::<StringViewArray>()),
        Arc::new(plain.as_any().downcast_ref::<StringArray>().unwrap().iter().collect::<LargeStringArray>()),
        Arc::new(plain.as_any().downcast_ref::<StringArray>().unwrap().iter().collect::<DictionaryArray<Int32Type>>()),
    ];
    for layout in layouts {
        assert_eq!(datums("s", layout), expected);
    }
    let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]));
    let large = cast(&list, &DataType::LargeList(Arc::new(Field::new("item", DataType::Int32, true)))).unwrap();
    assert_eq!(datums("l", list), datums("l", large));
    let small = cast(&Int32Array::from(vec![7, -7]), &DataType::Int8).unwrap();
    assert_eq!(datums("n", small), datums("n", Arc::new(Int32Array::from(vec![7, -7]))));
}

#[test]
fn timestamps_become_text_as_fink_has_them() {
    let column = TimestampMicrosecondArray::from(vec![Some(1_577_847_845_500_000), None, Some(0)]);
    let column: ArrayRef = Arc::new(column.with_timezone("UTC"));
    let schema = Arc::new(Schema::new(vec![Field::new("brokerEndProcessTimestamp", column.data_type().clone(), true)]));
    let encoder = Encoder::new(schema.clone(), "alert", Timestamps::Text).unwrap();
    let payloads = encoder.datums(&RecordBatch::try_new(schema, vec![column]).unwrap()).unwrap();
    let shown: Vec<_> = payloads.iter().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect();
    assert_eq!(shown, ["\u{2}*2020-01-01 03:04:05.5", "\0", "\u{2}&1970-01-01 00:00:00"]);
}

#[test]
fn what_avro_cannot_say_names_the_column_and_the_remedy() {
    let check = |name: &str, kind: DataType, expected: &str| {
        let schema = Arc::new(Schema::new(vec![Field::new(name, kind, true)]));
        assert_eq!(Encoder::new(schema, "alert", Timestamps::Logical).unwrap_err().to_string(), expected);
    };
    check(
        "x",
        DataType::Decimal128(4, 2),
        "column 'alert.x' has type Decimal128(4, 2), which Avro cannot say; cast it",
    );
    let message = "column 'alert.count(*)': 'count(*)' is not an Avro name (letters, digits, '_'); rename it with AS";
    check("count(*)", DataType::Int64, message);
}

#[test]
fn a_number_that_does_not_fit_is_an_error_not_a_null() {
    let column: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::UInt64, true)]));
    let encoder = Encoder::new(schema.clone(), "alert", Timestamps::Logical).unwrap();
    let error = encoder.datums(&RecordBatch::try_new(schema, vec![column]).unwrap()).unwrap_err().to_string();
    assert!(error.starts_with("column 'id':"), "{error}");
}

#[test]
fn a_batch_of_other_columns_is_refused() {
    let column = |name: &str| Schema::new(vec![Field::new(name, DataType::Int32, true)]);
    let encoder = Encoder::new(Arc::new(column("a")), "alert", Timestamps::Logical).unwrap();
    let error = encoder.datums(&RecordBatch::new_empty(Arc::new(column("b")))).unwrap_err().to_string();
    assert_eq!(error, "the batch has column 'b Int32' where the encoder was made for 'a Int32'");
}

#[test]
fn confluent_payloads_begin_with_the_id() {
    let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int32, true)]));
    let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(Int32Array::from(vec![1, 2]))]).unwrap();
    let payloads = Encoder::new(schema, "alert", Timestamps::Logical).unwrap().confluent(&batch, 900).unwrap();
    let shown: Vec<_> = payloads.iter().map(|bytes| bytes.to_vec()).collect();
    assert_eq!(shown, [[0, 0, 0, 3, 132, 2, 2], [0, 0, 0, 3, 132, 2, 4]]);
}
