//! Confluent's framing, with a folder and with a registry over HTTP.

use redpoll_core::source::Record;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::record;
use crate::avro::{Decoder, Format, ReaderSchema, Registry};

const V1: &str = r#"{"type":"record","name":"lsst.v10_0.alert","fields":[{"name":"diaSourceId","type":"long"}]}"#;
const V2: &str = r#"{"type":"record","name":"lsst.v11_0.alert","fields":[
    {"name":"snr","type":["null","float"]},{"name":"diaSourceId","type":["null","long"]}]}"#;

/// Two versions, a framing that is none, and an id that nobody knows.
fn records() -> Vec<Record> {
    let values: [&[u8]; 4] =
        [&[0, 0, 0, 0, 10, 6], &[0, 0, 0, 0, 11, 0, 2, 8], &[1, 2, 3, 4, 5, 6], &[0, 0, 0, 0, 12, 6]];
    values.into_iter().map(|value| record(value.to_vec())).collect()
}

async fn check(location: &str) {
    let format = Format::open("confluent", None, Some(location)).unwrap();
    let reader = ReaderSchema::from_avsc(V2).unwrap();
    let mut decoder = Decoder::new(format, &reader, None).unwrap();
    decoder.prepare(&records()).await.unwrap();
    let decoded = decoder.decode(&records());
    assert_eq!(decoded.record_of_row, [0, 1]);
    let failed: Vec<_> = decoded.failed.iter().map(|f| (f.record, f.fingerprint.as_deref())).collect();
    assert_eq!(failed, [(2, None), (3, Some("id:12"))]);
    assert!(decoded.failed[1].error.contains(&format!("id 12, is not in {location}")), "{:?}", decoded.failed);
}

#[tokio::test]
async fn schemas_come_from_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("10.avsc"), V1).unwrap();
    std::fs::write(folder.path().join("11.avsc"), V2).unwrap();
    check(folder.path().to_str().unwrap()).await;
}

#[tokio::test]
async fn schemas_come_from_a_registry_and_are_asked_for_once() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/apis/ccompat/v7", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let mut asked = Vec::new();
        while asked.len() < 3 {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let n = socket.read(&mut request).await.unwrap();
            let line = String::from_utf8_lossy(&request[..n]).lines().next().unwrap_or_default().to_owned();
            let (status, body) = match line.split(' ').nth(1).unwrap() {
                "/apis/ccompat/v7/schemas/ids/10" => ("200 OK", serde_json::json!({"schema": V1})),
                "/apis/ccompat/v7/schemas/ids/11" => ("200 OK", serde_json::json!({"schema": V2, "version": 2})),
                _ => ("404 Not Found", serde_json::json!({"error_code": 40403})),
            };
            let body = body.to_string();
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            socket.write_all((head + &body).as_bytes()).await.unwrap();
            asked.push(line);
        }
        asked.len()
    });
    let format = Format::open("confluent", None, Some(&url)).unwrap();
    // A second preparation asks for nothing: the server answers three requests and no more.
    format.prepare(&records()).await.unwrap();
    assert_eq!(server.await.unwrap(), 3);
    format.prepare(&records()).await.unwrap();
    assert!(format.writer_schema(&records()[1]).unwrap().contains("v11_0"));
}

#[tokio::test]
async fn a_registry_that_does_not_answer_is_an_error_of_the_moment() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://user:secret@{}", listener.local_addr().unwrap());
    drop(listener);
    let error = Format::open("confluent", None, Some(&url)).unwrap().prepare(&records()).await.unwrap_err().to_string();
    assert!(error.contains("did not give schema 10") && !error.contains("secret"), "{error}");
}

#[test]
fn options_that_are_missing_are_named() {
    let error = |format: &str| Format::open(format, None, None).unwrap_err().to_string();
    assert_eq!(error("parquet"), "format 'parquet' is none of ztf, ocf, confluent, avro, fink");
    assert!(error("confluent").contains("needs the option 'registry'"));
    assert!(error("avro").contains("needs the option 'schema'"));
}

/// A registry that gives this answer to all that it is asked, and what it is asked.
async fn answering(status: &'static str, body: &'static str) -> (String, tokio::task::JoinHandle<String>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/apis/ccompat/v7", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let n = socket.read(&mut request).await.unwrap();
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
        socket.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8_lossy(&request[..n]).lines().next().unwrap_or_default().to_owned()
    });
    (url, server)
}

#[tokio::test]
async fn a_registry_is_asked_whether_a_schema_is_compatible_and_nothing_is_registered() {
    let cases = [
        ("200 OK", r#"{"is_compatible":true}"#, ""),
        ("404 Not Found", r#"{"error_code":40401,"message":"no subject"}"#, ""),
        ("200 OK", r#"{"is_compatible":false,"messages":["snr is gone"]}"#, "not compatible with: snr is gone"),
        ("422 Unprocessable Entity", r#"{"error_code":42201}"#, "not compatible with"),
        ("404 Not Found", "nothing here", "did not take the schema of t-value: 404 Not Found nothing here"),
        ("401 Unauthorized", "", "401 Unauthorized"),
    ];
    for (status, body, expected) in cases {
        let (url, server) = answering(status, body).await;
        let checked = Registry::open(&url).unwrap().check("t-value", V1).await;
        let told = checked.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(told.contains(expected) && told.is_empty() == expected.is_empty(), "{status} {body}: {told}");
        let asked = server.await.unwrap();
        assert!(asked.contains("POST /apis/ccompat/v7/compatibility/subjects/t-value/versions/latest"), "{asked}");
    }
    let away = Registry::open("http://127.0.0.1:1").unwrap().check("t-value", V1).await.unwrap_err();
    assert!(away.to_string().contains("http://127.0.0.1:1 did not take the schema"), "{away}");
}
