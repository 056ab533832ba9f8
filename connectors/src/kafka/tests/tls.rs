//! TLS, with certificates of a CA of the test's own. It starts a Kafka: set `REDPOLL_FAULTS` to run it.

use std::path::Path;
use std::process::Command;

use super::faults::Own;
use super::*;

/// Keys and certificates in a folder: of `ca`, and of `broker` and `client`, which `ca` has signed.
fn certificates(folder: &Path) {
    let openssl = |arguments: &str| {
        let ended = Command::new("openssl").args(arguments.split_whitespace()).current_dir(folder).output().unwrap();
        assert!(ended.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&ended.stderr));
    };
    std::fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    for ca in ["ca", "other"] {
        openssl(&format!("req -x509 -newkey rsa:2048 -nodes -keyout {ca}.key -out {ca}.pem -days 2 -subj /CN={ca}"));
    }
    for who in ["broker", "client"] {
        openssl(&format!("req -newkey rsa:2048 -nodes -keyout {who}.key -out {who}.csr -subj /CN={who}"));
        openssl(&format!(
            "x509 -req -in {who}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out {who}.crt"
        ));
    }
    let both = ["broker.key", "broker.crt"].map(|name| std::fs::read_to_string(folder.join(name)).unwrap());
    std::fs::write(folder.join("broker.pem"), both.concat()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_with_tls_are_read_and_written_and_a_wrong_certificate_names_its_option() {
    if std::env::var("REDPOLL_FAULTS").is_err() {
        eprintln!("skipped: REDPOLL_FAULTS is not set; it starts a Kafka of its own");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let _own = Own::start_at(29192, Some(folder.path()));
    let topic = topic("127.0.0.1:29192", 1, &[]).await;
    write("127.0.0.1:29192", &topic, 1, &[b"a".to_vec(), b"b".to_vec()]).await;

    let file = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(file("password"), "fink\n").unwrap();
    let (ca, other, certificate, key) = (file("ca.pem"), file("other.pem"), file("client.crt"), file("client.key"));
    let password = file("password");
    let at = |port: u16, options: &[(&str, &str)]| {
        let bounds = [("request.timeout", "5s"), ("retries", "1")];
        config(&format!("127.0.0.1:{port}"), &topic, &[options, &bounds[..]].concat())
    };
    let tls: &[_] = &[("security.protocol", "ssl"), ("ssl.ca.location", ca.as_str())];
    let ours: &[_] = &[("ssl.certificate.location", certificate.as_str()), ("ssl.key.location", key.as_str())];
    let login: &[_] = &[
        ("security.protocol", "sasl_ssl"),
        ("ssl.ca.location", ca.as_str()),
        ("sasl.username", "fink"),
        ("sasl.password.file", password.as_str()),
    ];
    let both = [tls, ours].concat();
    for (port, options) in [(29196, tls), (29197, &both[..]), (29198, login)] {
        let config = at(port, options);
        assert!(visible_values(&config).await.starts_with(&["a".to_owned(), "b".to_owned()]), "port {port}");
        let sink = Sink::open(&config, "tls", Epoch(0)).await.unwrap();
        let record = Outgoing { topic: &topic, partition: Some(0), key: None, value: b"c", source: None };
        sink.send(record).await.unwrap();
        sink.finish().await.unwrap();
    }
    assert_eq!(visible_values(&at(29196, tls)).await, ["a", "b", "c", "c", "c"]);

    let refused = async |port: u16, options: &[(&str, &str)]| {
        let begun = Instant::now();
        let error = topics(&at(port, options)).await.unwrap_err().to_string();
        assert!(begun.elapsed() < Duration::from_secs(12), "{:?}: {error}", begun.elapsed());
        error
    };
    let wrong_ca = refused(29196, &[("security.protocol", "ssl"), ("ssl.ca.location", other.as_str())]).await;
    assert!(wrong_ca.contains("with the option 'ssl.ca.location'"), "{wrong_ca}");
    let no_certificate = refused(29197, tls).await;
    assert!(no_certificate.contains("'ssl.certificate.location' and 'ssl.key.location'"), "{no_certificate}");
    let absent = refused(29196, &[("security.protocol", "ssl"), ("ssl.ca.location", "/no/such.pem")]).await;
    assert!(absent.starts_with("option 'ssl.ca.location'") && absent.contains("/no/such.pem"), "{absent}");
}
