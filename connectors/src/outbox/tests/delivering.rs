//! A courier before web servers of this machine, good and bad.

use std::time::Duration;

use chrono::{TimeZone, Utc};
use redpoll_core::objects::Stores;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::super::courier::retry_after;
use super::super::{Answer, Config, Courier, Deliver, Unset};
use super::{message, spec};

/// A server that gives these answers to one request after the other, and then tells what it was sent.
async fn server(answers: &[&str]) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let answers: Vec<String> = answers.iter().map(|answer| (*answer).to_owned()).collect();
    let served = tokio::spawn(async move {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut socket, _) = listener.accept().await.unwrap();
            requests.push(request(&mut socket).await);
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
        requests
    });
    (url, served)
}

/// One request, to the end of its body.
async fn request(socket: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let mut chunk = [0; 1024];
        let n = socket.read(&mut chunk).await.unwrap();
        bytes.extend_from_slice(&chunk[..n]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if n == 0 || body.len() >= length.unwrap_or(0) {
            return text;
        }
    }
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n{body}", body.len())
}

fn courier(url: &str, options: &[(&str, &str)]) -> Courier {
    let config = Config::parse(&spec(url, options)).unwrap();
    let variable = |name: &str| (name == "TOKEN").then(|| "very-secret".to_owned());
    Courier::open(&config, &Stores::default(), &variable).unwrap()
}

#[tokio::test]
async fn a_message_is_a_request_with_its_idempotency_key_and_the_secrets() {
    let (url, served) = server(&[&answer("201 Created", "", "")]).await;
    let options = [("header.Authorization", "Bearer {env:TOKEN}"), ("field.from", "redpoll"), ("method", "PUT")];
    let courier = courier(&format!("{url}/{{env:TOKEN}}"), &options);
    assert_eq!(courier.deliver(0xab, &message("42")).await, Answer::Taken { status: 201 });
    let sent = served.await.unwrap().remove(0);
    assert!(sent.starts_with("PUT /hook/very-secret HTTP/1.1\r\n"), "{sent}");
    for line in [
        "idempotency-key: 000000000000000000000000000000ab",
        "authorization: Bearer very-secret",
        "content-type: application/json",
        r#"{"candid":42,"text":"a & b","from":"redpoll"}"#,
    ] {
        assert!(sent.contains(line), "{line}\n{sent}");
    }
    assert!(!format!("{courier:?}").contains("Bearer very-secret"));
}

#[tokio::test]
async fn what_a_receiver_answers_decides_what_becomes_of_a_message() {
    let later = |reason: &str, after: Option<u64>| Answer::Later {
        reason: reason.into(),
        after: after.map(Duration::from_secs),
    };
    let refused = |reason: &str| Answer::Refused { reason: reason.into() };
    let cases = [
        ("200 OK", "", "thanks", Answer::Taken { status: 200 }),
        ("400 Bad Request", "", "no chat_id,\n very-secret", refused("HTTP 400 Bad Request: no chat_id, …")),
        ("404 Not Found", "", "", refused("HTTP 404 Not Found")),
        ("302 Found", "location: /a\r\n", "", refused("HTTP 302 Found: it is somewhere else; give that as LOCATION")),
        ("429 Too Many Requests", "retry-after: 7\r\n", "", later("HTTP 429 Too Many Requests", Some(7))),
        ("409 Conflict", "", "", later("HTTP 409 Conflict", None)),
        ("503 Service Unavailable", "", "down", later("HTTP 503 Service Unavailable: down", None)),
    ];
    for (status, headers, body, expected) in cases {
        let (url, _served) = server(&[&answer(status, headers, body)]).await;
        assert_eq!(courier(&url, &[("field.token", "{env:TOKEN}")]).deliver(1, &message("1")).await, expected);
    }
}

#[tokio::test]
async fn a_receiver_that_does_not_answer_may_have_the_message_and_one_that_is_not_there_has_not() {
    // It takes the connection and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let answer = courier(&url, &[("timeout", "50ms")]).deliver(1, &message("1")).await;
    assert!(matches!(&answer, Answer::Later { reason, after: None } if !reason.contains("127.0.0.1")), "{answer:?}");
    drop(silent);
    let answer = courier(&url, &[]).deliver(1, &message("1")).await;
    assert!(matches!(answer, Answer::Unreachable { .. }), "{answer:?}");
}

#[tokio::test]
async fn a_folder_gets_a_file_for_each_message() {
    let folder = tempfile::tempdir().unwrap();
    let courier = courier(folder.path().to_str().unwrap(), &[]);
    for _ in 0..2 {
        assert!(matches!(courier.deliver(0xab, &message("42")).await, Answer::Taken { .. }));
    }
    let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 1);
    assert!(files[0].ends_with("000000000000000000000000000000ab.json"), "{files:?}");
    assert_eq!(std::fs::read_to_string(&files[0]).unwrap(), r#"{"candid":42,"text":"a & b"}"#);
}

#[test]
fn a_secret_that_is_not_there_is_told_by_its_name() {
    let config = Config::parse(&spec("https://host/{env:TNS_TOKEN}", &[])).unwrap();
    let unset = Courier::open(&config, &Stores::default(), &|_| None).unwrap_err();
    assert_eq!(unset, Unset::Variable("TNS_TOKEN".into()));
    assert!(unset.to_string().contains("{env:TNS_TOKEN}"), "{unset}");
}

#[test]
fn a_receiver_asks_for_a_pause_in_seconds_or_by_a_time() {
    let now = Utc.with_ymd_and_hms(2026, 1, 2, 3, 4, 5).unwrap();
    assert_eq!(retry_after("120", now), Some(Duration::from_secs(120)));
    assert_eq!(retry_after("Fri, 02 Jan 2026 03:05:05 GMT", now), Some(Duration::from_secs(60)));
    assert_eq!(retry_after("Fri, 02 Jan 2026 03:00:00 GMT", now), Some(Duration::ZERO));
    assert_eq!(retry_after("soon", now), None);
}
