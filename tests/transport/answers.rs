//! Whatever is sent, there is a proper answer.

use serde_json::{Value, json};

use crate::served::{Served, create, deployment};
use crate::support::https::request;

#[tokio::test(flavor = "multi_thread")]
async fn every_body_gets_a_proper_answer() {
    let served = Served::start("bodies").await;
    let whole = create(&deployment()).to_string();
    let change = |pointer: &str, value: Value| {
        let mut review = create(&deployment());
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
        review.pointer_mut(parent).expect("a parent")[key] = value;
        review.to_string().into_bytes()
    };
    let annotations = |value: &str| {
        let mut object = deployment();
        object["metadata"]["annotations"]["migration-gate.dev/command"] = json!(value);
        create(&object).to_string().into_bytes()
    };
    // Not reviews: 400, and the sentence says why.
    for (what, body) in [
        ("empty", Vec::new()),
        ("not JSON", b"hello".to_vec()),
        ("cut", whole.as_bytes()[..whole.len() / 2].to_vec()),
        ("more than one", format!("{whole}{whole}").into_bytes()),
        ("an array", b"[]".to_vec()),
        ("null", b"null".to_vec()),
        (
            "invalid UTF-8",
            whole
                .replace("orders", "ord\u{1}rs")
                .replace('\u{1}', "?")
                .into_bytes()
                .iter()
                .map(|byte| if *byte == b'?' { 0xff } else { *byte })
                .collect(),
        ),
        ("a NUL outside of a string", format!("{whole}\0").into_bytes()),
        ("a raw NUL in a string", whole.replace("orders", "ord\0ers").into_bytes()),
        ("UTF-16", whole.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("deep arrays", "[".repeat(1_000_000).into_bytes()),
        ("deep objects", "{\"a\":".repeat(200_000).into_bytes()),
        ("another kind", br#"{"apiVersion":"v1","kind":"Pod"}"#.to_vec()),
        ("another version", whole.replace("admission.k8s.io/v1", "admission.k8s.io/v1beta1").into_bytes()),
        ("no request", br#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#.to_vec()),
        ("no uid", change("/request/uid", Value::Null)),
    ] {
        let answer = served.door.review(&body).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(answer.status, 400, "{what}: {}", answer.text());
        assert!(answer.text().len() > 10 && answer.text().len() < 1000, "{what}: {}", answer.text());
    }
    // Reviews, whatever is in them: 200, with the uid that was asked with.
    for (what, body, allowed) in [
        ("a plain one", whole.clone().into_bytes(), Some(true)),
        (
            "another group",
            change("/request/kind", json!({"group": "batch", "version": "v1", "kind": "Job"})),
            Some(true),
        ),
        ("another version", change("/request/kind/version", json!("v1beta2")), None),
        ("a subresource", change("/request/subResource", json!("scale")), Some(true)),
        ("a deletion", change("/request/operation", json!("DELETE")), Some(true)),
        ("a connection", change("/request/operation", json!("CONNECT")), Some(true)),
        ("no object", change("/request/object", Value::Null), None),
        ("an object that isn't one", change("/request/object", json!("deployment")), None),
        ("no metadata", change("/request/object/metadata", Value::Null), None),
        ("no template", change("/request/object/spec", json!({})), None),
        ("containers that aren't a list", change("/request/object/spec/template/spec/containers", json!({})), None),
        (
            "labels that aren't texts",
            change("/request/object/metadata/labels", json!({"migration-gate.dev/gated": true})),
            None,
        ),
        ("an old object that isn't one", change("/request/oldObject", json!(7)), None),
        ("unknown fields", change("/request/surprise", json!({"a": [1, 2, 3]})), Some(true)),
        ("an empty command", annotations(""), Some(false)),
        ("an unfinished word", annotations("a 'b"), Some(false)),
        ("an escaped NUL", annotations("a\0b"), None),
        ("a huge command", annotations(&"word ".repeat(50_000)), None),
        (
            "duplicate keys",
            whole.replacen("\"dryRun\":false", "\"dryRun\":false,\"object\":{\"kind\":\"Pod\"}", 1).into_bytes(),
            None,
        ),
        ("a deep object", change("/request/object/spec/template/spec/containers/0/x", nested(100)), None),
    ] {
        let answer = served.door.review(&body).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        if what == "duplicate keys" && answer.status == 400 {
            continue;
        }
        assert_eq!(answer.status, 200, "{what}: {}", answer.text());
        let review: Value = serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(review["response"]["uid"], "705ab4f5-6393-11e8-b7cc-42010a800002", "{what}");
        assert!(review["response"]["allowed"].is_boolean(), "{what}: {review}");
        if let Some(allowed) = allowed {
            assert_eq!(review["response"]["allowed"], allowed, "{what}: {review}");
        }
    }
    served.works().await;
    served.sound();
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(json!(1), |inner, _| json!([inner]))
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_are_checked_before_bodies() {
    let served = Served::start("heads").await;
    let body = create(&deployment()).to_string();
    for (head, status) in [
        ("POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}", 415),
        ("POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\n{}", 415),
        ("POST /other HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}", 404),
        ("GET /mutate HTTP/1.1\r\nhost: x\r\n\r\n", 405),
        (
            "POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99999999999999999999\r\n\r\n",
            400,
        ),
        (
            "POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            400,
        ),
    ] {
        let mut connection = served.door.open().await.expect("a connection");
        connection.send(head.as_bytes()).await.expect("an open connection");
        let answer = connection.answer().await.expect("an answer");
        assert_eq!(answer.status, status, "{head}: {answer:?}");
    }
    // The beginning of HTTP/2, which was not agreed on.
    let mut connection = served.door.open().await.expect("a connection");
    connection.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("an open connection");
    connection.answer().await.expect_err("an end");
    // Pipelined, in pieces, and chunked: each review is answered, in its order.
    let mut connection = served.door.open().await.expect("a connection");
    connection
        .send(&[request(body.as_bytes()), request(b"no"), request(body.as_bytes())].concat())
        .await
        .expect("sent");
    for status in [200, 400, 200] {
        assert_eq!(connection.answer().await.expect("an answer").status, status);
    }
    for piece in request(body.as_bytes()).chunks(97) {
        connection.send(piece).await.expect("sent");
    }
    assert_eq!(connection.answer().await.expect("an answer").status, 200);
    let mut chunked =
        b"POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
            .to_vec();
    for piece in body.as_bytes().chunks(100) {
        chunked.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        chunked.extend_from_slice(piece);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    connection.send(&chunked).await.expect("sent");
    assert_eq!(connection.answer().await.expect("an answer").status, 200);
    served.works().await;
    served.sound();
}
