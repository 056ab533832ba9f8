//! Topics that change under a reader: deleted, created anew, with more partitions, or shared with a consumer group.

use rdkafka::admin::AdminOptions;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use redpoll_core::source::Taken;

use super::*;

fn numbers(n: usize) -> Vec<Vec<u8>> {
    (0..n).map(|i| format!("{i}").into_bytes()).collect()
}

async fn ranges(source: &Source) -> Vec<OffsetRange> {
    source.available(&Offsets::new(), Start::Earliest, u64::MAX).await.unwrap()
}

async fn delete(config: &Config, topic: &str) {
    let admin = offsets::admin(config).unwrap();
    admin.delete_topics(&[topic], &AdminOptions::new()).await.unwrap().remove(0).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while offsets::leaders(&client::Cluster::of(config), topic).await.unwrap().is_some() {
        assert!(Instant::now() < deadline, "the topic is still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A topic of ten records that was read to its end, and then was created anew with as many records as `n`.
async fn recreated(brokers: &str, n: usize) -> (Source, OffsetRange) {
    let topic = topic(brokers, 1, &[]).await;
    write(brokers, &topic, 1, &numbers(10)).await;
    let config = config(brokers, &topic, &[]);
    let source = Source::new(config.clone()).unwrap();
    let range = ranges(&source).await.remove(0);
    assert_eq!(conformance::read(&source, &range).await.len(), 10);
    delete(&config, &topic).await;
    create_topic(&config, &topic, 1, &BTreeMap::new()).await.unwrap();
    write(brokers, &topic, 1, &numbers(n)).await;
    (source, range)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_created_anew_is_neither_planned_nor_read_however_many_records_it_has() {
    let Some(brokers) = broker() else { return };
    for n in [3, 10, 25] {
        let (source, range) = recreated(&brokers, n).await;
        let mut taken = Taken::default();
        taken.add(std::slice::from_ref(&range));
        let from = Offsets::from([(range.topic_partition(), 10)]);
        let planned = source.available_except(&from, Start::Earliest, u64::MAX, &taken).await.unwrap_err();
        assert!(matches!(planned, SourceError::Recreated { .. }), "{n}: {planned}");
        let message = planned.to_string();
        assert!(message.contains(&range.topic) && message.contains("another --name"), "{message}");

        let lost = source.lost(std::slice::from_ref(&range)).await.unwrap();
        assert_eq!((lost[0].range.start, lost[0].range.end), (0, 10));
        assert!(lost[0].reason.contains("created anew"), "{}", lost[0]);
        if n >= 10 {
            // All its offsets are there, with other records.
            let read = source.read(range).try_collect::<Vec<_>>().await.unwrap_err();
            assert!(matches!(read, SourceError::Recreated { .. }), "{n}: {read}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_belongs_to_one_topic() {
    let Some(brokers) = broker() else { return };
    let (a, b) = (topic(&brokers, 1, &[]).await, topic(&brokers, 1, &[]).await);
    let cluster = client::Cluster::of(&config(&brokers, &a, &[]));
    let absent = format!("{a}-absent");
    let asked = [a.clone(), b.clone(), absent];
    let ids = topic_ids::topic_ids(&cluster, &asked).await.unwrap();
    assert_eq!(ids.len(), 2, "{ids:?}");
    assert!(ids[&a] != ids[&b] && ids[&a].len() == 32, "{ids:?}");
    assert_eq!(topic_ids::topic_ids(&cluster, &asked).await.unwrap(), ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_are_added_are_read_from_their_start() {
    let Some(brokers) = broker() else { return };
    let topic = topic(&brokers, 1, &[]).await;
    write(&brokers, &topic, 1, &numbers(4)).await;
    let config = config(&brokers, &topic, &[]);
    let source = Source::new(config.clone()).unwrap();
    let first = ranges(&source).await.remove(0);
    offsets::grow_topic(&config, &topic, 3).await.unwrap();
    // The producer that wrote before does not know of them yet; other settings are another producer.
    let sink = Sink::open(&self::config(&brokers, &topic, &[("linger", "7ms")]), "writer", Epoch(0)).await.unwrap();
    for partition in [0, 0, 1, 1, 2, 2] {
        let record = Outgoing { topic: &topic, partition: Some(partition), key: None, value: b"new", source: None };
        sink.send(record).await.unwrap();
    }
    sink.finish().await.unwrap();
    let from = Offsets::from([(first.topic_partition(), first.end)]);
    let found = source.available(&from, Start::Earliest, u64::MAX).await.unwrap();
    let found: Vec<_> = found.iter().map(|range| (range.partition, range.start, range.end)).collect();
    assert_eq!(found, [(0, 4, 6), (1, 0, 2), (2, 0, 2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_of_the_same_group_moves_nothing_of_ours() {
    let Some(brokers) = broker() else { return };
    let topic = topic(&brokers, 2, &[]).await;
    write(&brokers, &topic, 2, &numbers(40)).await;
    let config = config(&brokers, &topic, &[]);
    let source = Source::new(config.clone()).unwrap();
    let planned = ranges(&source).await;
    let mut reading = source.read(planned[0].clone());
    let mut records = vec![reading.try_next().await.unwrap().unwrap()];

    // It joins our group, is assigned all partitions, reads to the end and commits.
    let mut other = config.consumer(&config.group).unwrap();
    other.set("auto.offset.reset", "earliest");
    let other: BaseConsumer = other.create().unwrap();
    other.subscribe(&[&topic]).unwrap();
    let mut n = 0;
    let deadline = Instant::now() + Duration::from_secs(30);
    while n < 40 {
        assert!(Instant::now() < deadline, "the other consumer got {n} of 40 records");
        n += usize::from(matches!(other.poll(Duration::from_millis(100)), Some(Ok(_))));
    }
    let mut ends = rdkafka::TopicPartitionList::new();
    for partition in 0..2 {
        ends.add_partition_offset(&topic, partition, rdkafka::Offset::Offset(20)).unwrap();
    }
    other.commit(&ends, CommitMode::Sync).unwrap();

    records.extend(reading.try_collect::<Vec<_>>().await.unwrap());
    assert_eq!(records.iter().map(|record| record.offset).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
    let again: Vec<_> = ranges(&source).await.iter().map(|range| (range.partition, range.start, range.end)).collect();
    assert_eq!(again, [(0, 0, 20), (1, 0, 20)], "what the group has committed is not asked");
}
