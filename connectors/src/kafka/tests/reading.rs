use rdkafka::admin::AdminOptions;
use rdkafka::{Offset, TopicPartitionList};

use super::*;

fn values(n: usize, bytes: usize) -> Vec<Vec<u8>> {
    (0..n).map(|i| format!("{i:08}").into_bytes().into_iter().cycle().take(bytes + i % 7).collect()).collect()
}

async fn ranges(source: &Source) -> Vec<OffsetRange> {
    source.available(&Offsets::new(), Start::Earliest, u64::MAX).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_keeps_the_contract_of_a_source() {
    let Some(brokers) = broker() else { return };
    let topic = topic(&brokers, 2, &[]).await;
    write(&brokers, &topic, 2, &values(60, 20_000)).await;
    let source = Source::new(config(&brokers, &topic, &[])).unwrap();
    assert_eq!(conformance::check(&source).await.len(), 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn markers_and_aborted_records_are_left_out_and_the_range_still_ends() {
    let Some(brokers) = broker() else { return };
    let topic = topic(&brokers, 1, &[]).await;
    let config = config(&brokers, &topic, &[]);
    prepare(&config, &[], 1).await.unwrap();
    for epoch in 0..3 {
        let transaction = producing(&config, &topic, 0, epoch).await;
        send(&transaction, &topic, &["a", "b"]).await;
        transaction.commit(String::new()).await.unwrap();
        let transaction = producing(&config, &topic, 0, epoch + 1).await;
        send(&transaction, &topic, &["never"]).await;
        // Aborted only after it has arrived, so that offsets are taken.
        transaction.flush().await.unwrap();
        transaction.abort().await;
    }
    assert_eq!(settled_values(&config).await, ["a", "b", "a", "b", "a", "b"]);
    let source = Source::new(config).unwrap();
    let records = conformance::check(&source).await;
    assert_eq!(records.iter().map(|r| r.offset).collect::<Vec<_>>(), [0, 1, 5, 6, 10, 11]);
    assert_eq!(ranges(&source).await[0].end, 15, "two records, a marker, an aborted one, its marker; three times");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_transaction_is_not_yet_available() {
    let Some(brokers) = broker() else { return };
    let topic = topic(&brokers, 1, &[]).await;
    let config = config(&brokers, &topic, &[]);
    prepare(&config, &[], 1).await.unwrap();
    write(&brokers, &topic, 1, &values(3, 10)).await;
    let transaction = producing(&config, &topic, 0, 0).await;
    send(&transaction, &topic, &["open"]).await;
    transaction.flush().await.unwrap();
    write(&brokers, &topic, 1, &values(2, 10)).await;

    let source = Source::new(config.clone()).unwrap();
    assert_eq!(ranges(&source).await[0].end, 3);
    let all = Source::new(Config { isolation: Isolation::ReadUncommitted, ..config.clone() }).unwrap();
    assert_eq!(ranges(&all).await[0].end, 6);
    transaction.commit(String::new()).await.unwrap();
    assert_eq!(settled_values(&config).await.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_that_the_broker_has_deleted_are_expired() {
    let Some(brokers) = broker() else { return };
    let topic = topic(&brokers, 1, &[]).await;
    write(&brokers, &topic, 1, &values(10, 10)).await;
    let source = Source::new(config(&brokers, &topic, &[])).unwrap();
    let before = ranges(&source).await.remove(0);
    let mut deleted = TopicPartitionList::new();
    deleted.add_partition_offset(&topic, 0, Offset::Offset(4)).unwrap();
    offsets::admin(&config(&brokers, &topic, &[]))
        .unwrap()
        .delete_records(&deleted, &AdminOptions::new())
        .await
        .unwrap();

    let from = Offsets::from([(before.topic_partition(), 0)]);
    let planned = source.available(&from, Start::Earliest, u64::MAX).await.unwrap();
    let planned: Vec<_> = planned.iter().map(|range| (range.start, range.end, range.expired)).collect();
    assert_eq!(planned, [(0, 4, true), (4, 10, false)]);
    let lost = source.lost(std::slice::from_ref(&before)).await.unwrap();
    let names: Vec<_> = lost.iter().map(ToString::to_string).collect();
    assert_eq!(names, [format!("{topic}[0] offsets 0..4: retention has deleted them, the broker begins at 4")]);
    assert_eq!(source.lost(&before.without(&lost)).await.unwrap(), [], "what is known to be gone is not lost again");
    let expired = format!("{topic}[0]: offsets 0..10 are no longer held by the broker (it begins at 4)");
    let read = source.read(before).try_collect::<Vec<_>>().await;
    assert_eq!(read.unwrap_err().to_string(), expired);
    assert_eq!(ranges(&source).await[0].start, 4, "a source that was never read begins at what is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_comes_with_the_nearest_name() {
    let Some(brokers) = broker() else { return };
    let topic = topic(&brokers, 1, &[]).await;
    let misspelt = format!("{topic}s");
    let source = Source::new(config(&brokers, &misspelt, &[])).unwrap();
    let error = source.available(&Offsets::new(), Start::Earliest, 1).await.unwrap_err();
    assert!(matches!(error, SourceError::Missing { .. }), "{error:?}");
    assert!(error.to_string().contains(&format!("did you mean '{topic}'?")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_finds_topics_that_come_later() {
    let Some(brokers) = broker() else { return };
    let first = topic(&brokers, 1, &[]).await;
    let config = config(&brokers, &format!("^{first}.*"), &[]);
    let source = Source::new(config.clone()).unwrap();
    assert_eq!(ranges(&source).await, []);
    let unmatched = Source::new(self::config(&brokers, "^no-such-topic-.*", &[])).unwrap();
    assert_eq!(unmatched.begin(Start::Latest).await.unwrap(), Some(Offsets::new()), "asked, and nothing was there");
    let second = format!("{first}-later");
    create_topic(&config, &second, 2, &BTreeMap::new()).await.unwrap();
    write(&brokers, &second, 2, &values(4, 10)).await;
    let found: Vec<_> = ranges(&source).await.iter().map(|r| (r.topic.clone(), r.partition, r.len())).collect();
    assert_eq!(found, [(second.clone(), 0, 2), (second, 1, 2)]);
    assert_eq!(topics(&config).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_is_an_end_or_a_time() {
    let Some(brokers) = broker() else { return };
    let topic = topic(&brokers, 1, &[]).await;
    write(&brokers, &topic, 1, &values(5, 10)).await;
    let config = config(&brokers, &topic, &[]);
    let source = Source::new(config.clone()).unwrap();
    let third = visible(&config).await[2].timestamp.unwrap();
    let at_third = visible(&config).await.iter().position(|r| r.timestamp.unwrap() >= third).unwrap() as i64;
    let begin = async |start| *source.begin(start).await.unwrap().unwrap().values().next().unwrap();
    assert_eq!(begin(Start::Earliest).await, 0);
    assert_eq!(begin(Start::Latest).await, 5);
    assert_eq!(begin(Start::Timestamp(third)).await, at_third);
    assert_eq!(begin(Start::Timestamp(third + 3_600_000)).await, 5);
    assert_eq!(source.available(&Offsets::new(), Start::Latest, u64::MAX).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_is_shared_evenly_by_learned_record_sizes() {
    let Some(brokers) = broker() else { return };
    let topic = topic(&brokers, 2, &[]).await;
    write(&brokers, &topic, 2, &values(80, 10_000)).await;
    let source = Source::new(config(&brokers, &topic, &[])).unwrap();
    let ranges = source.available(&Offsets::new(), Start::Earliest, 200_000).await.unwrap();
    let lens: Vec<_> = ranges.iter().map(|range| range.len()).collect();
    assert!(lens.len() == 2 && lens.iter().all(|len| (9..=10).contains(len)), "{ranges:?}");
    assert!(ranges.iter().map(|range| range.bytes).sum::<u64>() <= 200_000, "{ranges:?}");
    let one = source.available(&Offsets::new(), Start::Earliest, 1).await.unwrap();
    assert_eq!(one.iter().map(|range| range.len()).collect::<Vec<_>>(), [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_does_not_answer_is_an_error_that_names_it() {
    let options = [("request.timeout", "200ms"), ("retries", "1")];
    let source = Source::new(config("127.0.0.1:9", "alerts", &options)).unwrap();
    let started = Instant::now();
    let error = source.available(&Offsets::new(), Start::Earliest, 1).await.unwrap_err();
    assert!(error.to_string().starts_with("kafka://127.0.0.1:9: asking for topic alerts: "), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn scram_lets_in_who_knows_the_password() {
    let Ok(brokers) = std::env::var("KAFKA_SASL_BOOTSTRAP") else {
        eprintln!("skipped: KAFKA_SASL_BOOTSTRAP is not set; run tests/services/kafka.sh start");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    std::fs::write(&path, "fink\n").unwrap();
    let login = |password: (&'static str, String)| {
        let (name, value) = password;
        let options = [
            ("security.protocol", "sasl_plaintext"),
            ("sasl.username", "fink"),
            (name, &value),
            ("request.timeout", "2s"),
        ];
        config(&brokers, "", &options)
    };
    let right = login(("sasl.password.file", path.display().to_string()));
    assert!(topics(&right).await.is_ok());
    let wrong = topics(&login(("sasl.password", "guess".into()))).await;
    let error = wrong.unwrap_err().to_string();
    assert!(error.contains("Authentication failed"), "{error}");
}
