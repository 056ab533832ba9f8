use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use futures::FutureExt;
use redpoll_core::digest;
use redpoll_core::ids::SplitId;
use redpoll_core::objects::Stores;
use redpoll_core::protocol::SinkReceipt;
use redpoll_core::sink::{Attempt, OpenSink, Rows, SinkKind, SinkSpec};

use super::*;

async fn prepared(brokers: &str) -> (String, Config) {
    let topic = topic(brokers, 1, &[]).await;
    let config = config(brokers, &topic, &[]);
    assert_eq!(prepare(&config, std::slice::from_ref(&topic), 2).await.unwrap(), Vec::<String>::new());
    (topic, config)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_carries_its_origin() {
    let Some(brokers) = broker() else { return };
    let topic = topic(&brokers, 1, &[]).await;
    let config = config(&brokers, &topic, &[]);
    let sink = Sink::open(&config, "job-1", Epoch(7)).await.unwrap();
    let source = Some(Position { topic: "ztf", partition: 3, offset: 12, index: 1 });
    sink.send(Outgoing { topic: &topic, partition: None, key: Some(b"k"), value: b"v", source }).await.unwrap();
    assert_eq!(sink.finish().await.unwrap(), Written { records: 1, bytes: 2 });

    let lease = client::Cluster::of(&config).lease(&topic, 0, 0).await.unwrap();
    let message = lease.reader().recv().await.unwrap().detach();
    let header = |header: rdkafka::message::Header<'_, &[u8]>| {
        format!("{}={}", header.key, String::from_utf8_lossy(header.value.unwrap()))
    };
    let headers: Vec<_> = message.headers().unwrap().iter().map(header).collect();
    assert_eq!(headers, ["redpoll-job=job-1", "redpoll-epoch=7", "redpoll-source=ztf:3:12#1"]);
    assert_eq!((message.key(), message.payload()), (Some(&b"k"[..]), Some(&b"v"[..])));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_by_headers_sees_what_was_committed_and_nothing_that_was_given_up() {
    let Some(brokers) = broker() else { return };
    let (topic, config) = prepared(&brokers).await;
    for (epoch, ends_well) in [(0, false), (1, true)] {
        let transaction = producing(&config, &topic, 0, epoch).await;
        for offset in 0..3 {
            let source = Some(Position { topic: "ztf", partition: 3, offset, index: 0 });
            let record = Outgoing { topic: &topic, partition: Some(0), key: None, value: b"v", source };
            transaction.send(record).await.unwrap();
        }
        match ends_well {
            true => _ = transaction.commit("three".into()).await.unwrap(),
            false => transaction.abort().await,
        }
    }
    write(&brokers, &topic, 1, &[b"other".to_vec()]).await;
    let deliveries = Deliveries::open(&config, &topic).await.unwrap();
    assert_eq!(deliveries.shortened().count(), 0);
    let records: Vec<_> = deliveries.records().try_collect().await.unwrap();
    let told = |record: &Delivered| (record.job.clone().unwrap(), record.epoch.clone(), record.source.clone());
    let ours = |source: &str| (topic.clone(), Some("1".to_owned()), Some(source.to_owned()));
    let expected = [ours("ztf:3:0"), ours("ztf:3:1"), ours("ztf:3:2"), ("writer".into(), Some("0".into()), None)];
    assert_eq!(records.iter().map(told).collect::<Vec<_>>(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_not_delivered_fails_its_split() {
    let Some(brokers) = broker() else { return };
    let topic = topic(&brokers, 1, &[("max.message.bytes", "2000")]).await;
    let sink = Sink::open(&config(&brokers, &topic, &[("compression", "none")]), "job", Epoch(0)).await.unwrap();
    for bytes in [10, 5000] {
        let value = vec![7; bytes];
        let record = Outgoing { topic: &topic, partition: Some(0), key: None, value: &value, source: None };
        // Apart, or the two would be one batch that is refused as a whole.
        sink.send(record).await.unwrap();
        let _ = sink.flush().await;
    }
    let error = sink.finish().await.unwrap_err();
    assert!(matches!(&error, Error::Delivery { failed: 1, sent: 2, .. }), "{error}");
    assert!(error.to_string().starts_with(&format!("{topic}: 1 of 2 records were not delivered")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_waits_when_too_much_is_unacknowledged() {
    // Nobody answers there, so nothing is ever acknowledged.
    let config = config("127.0.0.1:9", "t", &[("buffer.bytes", "100kB")]);
    let sink = Sink::open(&config, "job", Epoch(0)).await.unwrap();
    let value = vec![1; 60_000];
    let record = Outgoing { topic: "t", partition: Some(0), key: None, value: &value, source: None };
    assert!(sink.send(record).now_or_never().is_some(), "the first 60 kB of 100 kB");
    assert!(sink.send(record).now_or_never().is_none(), "the second 60 kB of 100 kB");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_that_is_out_is_not_written_again_and_its_metadata_comes_back_whole() {
    let Some(brokers) = broker() else { return };
    let (topic, config) = prepared(&brokers).await;
    let metadata = format!("{{\"rows\": 2, \"digest\": \"{}\"}}", "é".repeat(1000));
    let transaction = producing(&config, &topic, 1, 5).await;
    send(&transaction, &topic, &["a", "b"]).await;
    assert_eq!(visible_values(&config).await, Vec::<String>::new(), "nothing before the commit");
    assert_eq!(transaction.commit(metadata.clone()).await.unwrap(), Written { records: 2, bytes: 2 });

    for _ in 0..2 {
        match Transaction::open(&config, &topic, Lane(1), Epoch(5)).await.unwrap() {
            Opened::Already(mark) => assert_eq!(mark, Mark { epoch: Epoch(5), metadata: metadata.clone() }),
            Opened::Producing(_) => panic!("epoch 5 is out"),
        }
        lane::IDLE.remove(&lane::idle_key(&config, &topic, Lane(1)));
    }
    assert_eq!(settled_values(&config).await, ["a", "b"]);
    // Another lane, and the next epoch of this one, are untouched by the mark.
    producing(&config, &topic, 0, 5).await.abort().await;
    producing(&config, &topic, 1, 6).await.abort().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_commits_nothing() {
    let Some(brokers) = broker() else { return };
    let (topic, config) = prepared(&brokers).await;
    let zombie = producing(&config, &topic, 0, 0).await;
    send(&zombie, &topic, &["zombie"]).await;
    zombie.flush().await.unwrap();

    let second = producing(&config, &topic, 0, 0).await;
    send(&second, &topic, &["second"]).await;
    let error = zombie.commit("zombie".into()).await.unwrap_err();
    assert!(matches!(error, Error::Fenced { .. }), "{error:?}");
    second.commit("second".into()).await.unwrap();
    assert_eq!(settled_values(&config).await, ["second"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_is_late_finds_its_epoch_out() {
    let Some(brokers) = broker() else { return };
    let (topic, config) = prepared(&brokers).await;
    for (epoch, value) in [(0, "a"), (1, "b")] {
        let transaction = producing(&config, &topic, 0, epoch).await;
        send(&transaction, &topic, &[value]).await;
        transaction.commit(value.into()).await.unwrap();
    }
    match Transaction::open(&config, &topic, Lane(0), Epoch(0)).await.unwrap() {
        Opened::Already(mark) => assert_eq!(mark, Mark { epoch: Epoch(1), metadata: "b".into() }),
        Opened::Producing(_) => panic!("epoch 0 is out"),
    }
    assert_eq!(settled_values(&config).await, ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_transaction_leaves_nothing_visible() {
    let Some(brokers) = broker() else { return };
    let (topic, config) = prepared(&brokers).await;
    let transaction = producing(&config, &topic, 0, 0).await;
    send(&transaction, &topic, &["given up"]).await;
    transaction.flush().await.unwrap();
    transaction.abort().await;
    let again = producing(&config, &topic, 0, 0).await;
    send(&again, &topic, &["kept"]).await;
    again.commit(String::new()).await.unwrap();
    assert_eq!(settled_values(&config).await, ["kept"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_transaction_is_aborted_and_its_split_written_once_by_the_next() {
    let Some(brokers) = broker() else { return };
    let (topic, config) = prepared(&brokers).await;
    let transaction = producing(&config, &topic, 0, 0).await;
    send(&transaction, &topic, &["a", "b"]).await;
    transaction.flush().await.unwrap();
    drop(transaction);
    let again = producing(&config, &topic, 0, 0).await;
    send(&again, &topic, &["a", "b"]).await;
    again.commit(String::new()).await.unwrap();
    assert_eq!(settled_values(&config).await, ["a", "b"]);
}

/// The process that `a_killed_process_leaves_each_record_once` kills; does nothing when run by itself.
#[tokio::test(flavor = "multi_thread")]
async fn child_that_is_killed() {
    let (Some(brokers), Ok(topic)) = (std::env::var("KAFKA_BOOTSTRAP").ok(), std::env::var("REDPOLL_TEST_TOPIC"))
    else {
        return;
    };
    let transaction = producing(&config(&brokers, &topic, &[]), &topic, 0, 0).await;
    send(&transaction, &topic, &["a", "b"]).await;
    transaction.flush().await.unwrap();
    println!("written");
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_leaves_each_record_once() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    let Some(brokers) = broker() else { return };
    let (topic, config) = prepared(&brokers).await;
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kafka::tests::writing::child_that_is_killed", "--nocapture"])
        .env("REDPOLL_TEST_TOPIC", &topic)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("written")), "the child wrote its records");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(visible_values(&config).await, Vec::<String>::new());

    let again = producing(&config, &topic, 0, 0).await;
    send(&again, &topic, &["a", "b"]).await;
    again.commit(String::new()).await.unwrap();
    assert_eq!(settled_values(&config).await, ["a", "b"]);
    let all = visible_values(&Config { isolation: Isolation::ReadUncommitted, ..config }).await;
    assert_eq!(all, ["a", "b", "a", "b"], "the killed process had written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_kept_by_a_process_that_lost_it_is_taken_anew() {
    let Some(brokers) = broker() else { return };
    let (topic, config) = prepared(&brokers).await;
    let commit = async |epoch: u64| {
        let transaction = producing(&config, &topic, 0, epoch).await;
        send(&transaction, &topic, &[&epoch.to_string()]).await;
        transaction.commit(String::new()).await.unwrap();
    };
    commit(0).await;
    let (key, kept) = lane::IDLE.remove(&lane::idle_key(&config, &topic, Lane(0))).unwrap();
    commit(1).await;
    lane::IDLE.insert(key, kept);
    commit(2).await;
    assert_eq!(settled_values(&config).await, ["0", "1", "2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_is_committed_without_records_and_has_a_limit() {
    let Some(brokers) = broker() else { return };
    let (topic, config) = prepared(&brokers).await;
    let long = producing(&config, &topic, 0, 0).await.commit("x".repeat(5000)).await.unwrap_err();
    assert!(matches!(long, Error::Metadata { bytes: 5000, .. }), "{long:?}");
    producing(&config, &topic, 0, 0).await.commit("empty".into()).await.unwrap();
    let Opened::Already(mark) = Transaction::open(&config, &topic, Lane(0), Epoch(0)).await.unwrap() else {
        panic!("epoch 0 is out");
    };
    assert_eq!(mark.metadata, "empty");
}

#[tokio::test(flavor = "multi_thread")]
async fn prepare_answers_which_topics_are_missing_and_adds_lanes() {
    let Some(brokers) = broker() else { return };
    let (topic, config) = prepared(&brokers).await;
    let absent = format!("{topic}-absent");
    assert_eq!(prepare(&config, &[topic, absent.clone()], 3).await.unwrap(), [absent]);
    let marks = topics(&config.with_topics(Topics::Names(vec![MARKS_TOPIC.into()]))).await.unwrap();
    assert!(marks[0].partitions.len() >= 3, "{marks:?}");
}

/// Writes rows with these offsets as one attempt at split 0 of epoch 0, twice into one topic.
async fn attempt(config: &Config, job: &str, url: &str, offsets: &[i64]) -> Vec<SinkReceipt> {
    attempt_at(config, job, [url, url], offsets).await
}

async fn attempt_at(config: &Config, job: &str, urls: [&str; 2], offsets: &[i64]) -> Vec<SinkReceipt> {
    let batch =
        RecordBatch::try_from_iter([("candid", Arc::new(Int64Array::from(offsets.to_vec())) as ArrayRef)]).unwrap();
    let n = offsets.len();
    let meta: [(&str, ArrayRef); 4] = [
        ("_topic", Arc::new(StringArray::from(vec!["ztf"; n]))),
        ("_partition", Arc::new(Int32Array::from(vec![0; n]))),
        ("_offset", Arc::new(Int64Array::from(offsets.to_vec()))),
        ("_row", Arc::new(Int32Array::from(vec![0; n]))),
    ];
    let meta = RecordBatch::try_from_iter(meta).unwrap();
    let hashes = offsets.iter().map(|offset| digest::row_hash("ztf", 0, *offset, 0)).collect();
    let rows = Rows { batch: batch.clone(), meta, hashes };
    let open = urls.map(|url| {
        let (kind, options) = (SinkKind::Topic, BTreeMap::from([("format".to_owned(), "fink".to_owned())]));
        let spec = SinkSpec { name: "out".into(), kind, url: url.into(), partition_by: vec![], options };
        OpenSink { spec, schema: batch.schema() }
    });
    let names = Attempt {
        job: "ztf".into(),
        job_uid: job.into(),
        epoch: Epoch(0),
        split: SplitId(0),
        ranges: 7,
        attempt: "a".into(),
        clock: 0,
        warehouse: String::new(),
        modules: BTreeMap::new(),
    };
    let mut sinks = crate::sinks::open(&names, &open, &Stores::default(), None, 2).await.unwrap();
    sinks.write(0, &rows).await.unwrap();
    sinks.write(1, &rows).await.unwrap();
    let receipts = sinks.finish().await.unwrap();
    lane::IDLE.remove(&lane::idle_key(config, job, Lane(0)));
    receipts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_finds_its_lane_out_with_other_rows_takes_the_counts_of_its_mark() {
    let Some(brokers) = broker() else { return };
    let (topic, config) = prepared(&brokers).await;
    let url = format!("kafka://{brokers}/{topic}");
    let first = attempt(&config, &topic, &url, &[1, 2, 3]).await;
    assert_eq!(
        first.iter().map(|receipt| (receipt.rows, receipt.recomputed)).collect::<Vec<_>>(),
        [(3, None), (3, None)]
    );

    // The same rows again: nothing is written, and nothing is to be told.
    assert_eq!(attempt(&config, &topic, &url, &[3, 2, 1]).await, first);
    // Other rows: both INSERTs are one topic, of which the mark has the sum.
    let other = attempt(&config, &topic, &url, &[1, 2]).await;
    let told: Vec<_> =
        other.iter().map(|receipt| (receipt.rows, receipt.recomputed.map(|recomputed| recomputed.rows))).collect();
    assert_eq!(told, [(6, Some(2)), (0, Some(2))]);
    let mut written = first[0].written;
    written += first[1].written;
    assert_eq!(other[0].written, written);
    assert_eq!(settled_values(&config).await.len(), 6);
}

#[tokio::test]
async fn a_topic_takes_what_it_says_and_a_byte_more_fails_the_transaction() {
    let Some(brokers) = broker() else { return };
    let topic = topic(&brokers, 1, &[("max.message.bytes", "5000")]).await;
    let limits = max_message_bytes(&config(&brokers, &topic, &[]), std::slice::from_ref(&topic)).await;
    assert_eq!(limits, [(topic.clone(), 5000)].into());
    let options = [("compression", "none"), ("batch.bytes", "5000")];
    let config = config(&brokers, &topic, &options);
    prepare(&config, &[], 16).await.unwrap();
    let source = Position { topic: "ztf_20260102", partition: 3, offset: 81234, index: 2 };
    for (epoch, key) in [(7, None), (1234, Some(&b"a key"[..]))] {
        let job = format!("job-{}", Uuid::new_v4().simple());
        let record = |value| Outgoing { topic: &topic, partition: Some(0), key, value, source: Some(source) };
        let filled = 5000 - record(&[b'x'; 4000]).batch_bytes(&job, Epoch(epoch)) + 4000;
        let (fits, above) = (vec![b'x'; filled], vec![b'x'; filled + 1]);
        assert_eq!(record(&fits).batch_bytes(&job, Epoch(epoch)), 5000);
        let transaction = producing(&config, &job, 0, epoch).await;
        // Small ones are not sent together with more than the topic takes.
        for _ in 0..100 {
            transaction.send(record(&[b'y'; 300])).await.unwrap();
        }
        transaction.send(record(&fits)).await.unwrap();
        transaction.commit(String::new()).await.unwrap();
        let transaction = producing(&config, &job, 0, epoch + 1).await;
        transaction.send(record(&above)).await.unwrap();
        assert!(transaction.commit(String::new()).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_cluster_by_two_lists_of_brokers_is_one_transaction() {
    let Some(brokers) = broker() else { return };
    let (topic, config) = prepared(&brokers).await;
    assert!(cluster_id(&config).await.unwrap().is_some());
    let doubled = format!("{brokers},{}", brokers.split(',').next().unwrap());
    let urls = [format!("kafka://{brokers}/{topic}"), format!("kafka://{doubled}/{topic}")];
    let receipts = attempt_at(&config, &topic, [&urls[0], &urls[1]], &[1, 2, 3]).await;
    assert_eq!(receipts.iter().map(|receipt| receipt.rows).collect::<Vec<_>>(), [3, 3]);
}
