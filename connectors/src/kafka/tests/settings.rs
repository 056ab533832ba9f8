use super::*;

fn check(url: &str, options: &[(&str, &str)], expected: Result<&str, &str>) {
    let options = options.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let parsed = Config::parse(url, &options).map(|config| String::from(config.topic.clone()));
    assert_eq!(parsed.map_err(|error| error.to_string()), expected.map(Into::into).map_err(Into::into));
}

#[test]
fn topics_come_from_the_location_or_from_the_option() {
    check("kafka://a:1,b:2/ztf", &[], Ok("ztf"));
    check("kafka://a:1/ztf_1, ztf_2", &[], Ok("ztf_1,ztf_2"));
    check("kafka://a:1/^ztf_[0-9]+$", &[], Ok("^ztf_[0-9]+$"));
    check("kafka://a:1", &[("topic", "^ztf_.*")], Ok("^ztf_.*"));
    check("kafka://a:1", &[], Ok(""));
    check("kafka://a:1/ztf", &[("topic", "lsst")], Err("option 'topic' of kafka://a:1/ztf: is given by the location"));
    check(
        "kafka://a:1/zt*f",
        &[],
        Err("option 'location' of kafka://a:1/zt*f: 'zt*f' is no topic name; a pattern begins with '^'"),
    );
    check(
        "kafka:///ztf",
        &[],
        Err("option 'location' of kafka:///ztf: names no broker; write kafka://host:port/topic"),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_does_not_speak_tls_names_the_option() {
    // It ends each connection as soon as it has read something that it does not understand.
    let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let brokers = port.local_addr().unwrap().to_string();
    let served = tokio::spawn(async move {
        loop {
            let (socket, _) = port.accept().await.unwrap();
            socket.readable().await.unwrap();
            let _ = socket.try_read(&mut [0; 4096]);
        }
    });
    for (protocol, login) in [("ssl", &[][..]), ("sasl_ssl", &[("sasl.username", "a"), ("sasl.password", "b")])] {
        let options = [&[("security.protocol", protocol), ("request.timeout", "1s"), ("retries", "0")], login].concat();
        let error = topics(&config(&brokers, "ztf", &options)).await.unwrap_err().to_string();
        assert!(error.contains("speak TLS, as the option 'security.protocol' says?"), "{error}");
    }
    served.abort();
}

#[test]
fn an_option_that_is_wrong_is_named() {
    let refused = |name: &str, value: &str| {
        let options = BTreeMap::from([(name.to_string(), value.to_string())]);
        Config::parse("kafka://a:1/t", &options).unwrap_err().to_string()
    };
    let starts = |name: &str, value: &str, text: &str| {
        let error = refused(name, value);
        assert!(error.starts_with(&format!("option '{name}' of kafka://a:1/t: {text}")), "{error}");
    };
    starts("prefetch.byte", "1", "unknown field `prefetch.byte`, expected one of");
    starts("prefetch.bytes", "8 apples", "'8 apples' has no known unit, the units are KiB, MiB,");
    starts("linger", "soon", "'soon' is not a whole number with a unit");
    starts("isolation", "serializable", "unknown variant `serializable`, expected `read_committed`");
    starts("compression", "rar", "unknown variant `rar`, expected one of `none`, `lz4`");
    starts("linger", "2h", "'7200000' is refused:");
    starts("kafka.no.such.setting", "1", "'1' is refused:");
    starts("kafka.isolation.level", "read_uncommitted", "is set by redpoll");
    starts("transaction.timeout", "1h", "is above the brokers' limit of 15m");
    starts("ssl.certificate.location", "me.crt", "needs ssl.key.location beside it");
    starts("ssl.key.location", "me.key", "needs ssl.certificate.location beside it");
    starts("ssl.ca.location", "ca.pem", "has no effect without security.protocol ssl or sasl_ssl");
}

#[test]
fn a_config_travels_as_json_and_keeps_its_password_from_logs() {
    let options = [
        ("security.protocol", "sasl_plaintext"),
        ("sasl.username", "fink"),
        ("sasl.password", "secret"),
        ("prefetch.bytes", "2MiB"),
        ("linger", "1s"),
        ("retries", "2"),
        ("kafka.socket.keepalive.enable", "true"),
    ];
    let config = config("a:1,b:2", "t", &options);
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<Config>(&json).unwrap(), config);
    assert_eq!((config.prefetch_bytes, config.linger, config.retries), (2 << 20, Duration::from_secs(1), 2));
    assert!(!format!("{config:?}").contains("secret"), "{config:?}");
}

#[test]
fn a_position_reads_as_it_is_written() {
    for (text, topic, index) in [("ztf:3:12345", "ztf", 0), ("a#1:b.avro:3:12345#2", "a#1:b.avro", 2)] {
        let position = Position { topic, partition: 3, offset: 12345, index };
        assert_eq!((position.to_string().as_str(), Position::parse(text)), (text, Some(position)));
    }
    assert_eq!(Position::parse("ztf:3"), None);
}

#[test]
fn everything_asynchronous_may_be_spawned() {
    fn check<T: Send>(_: T) {}
    let config = config("a:1", "t", &[]);
    check(prepare(&config, &[], 1));
    check(create_topic(&config, "t", 1, &BTreeMap::new()));
    check(topics(&config));
    check(Sink::open(&config, "job", Epoch(0)));
    check(Transaction::open(&config, "job", Lane(0), Epoch(0)));
    check(async |sink: Sink, transaction: Transaction, record: Outgoing<'static>| {
        (sink.send(record).await, sink.finish().await).1?;
        (transaction.send(record).await, transaction.commit(String::new()).await).1
    });
}
