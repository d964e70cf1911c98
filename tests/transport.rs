//! The webhook's process against everybody who can reach its port: always a proper answer, bounded memory, no panic.

mod support;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::files::{Authority, Secret};
use support::https::{Answer, Door, request};
use support::webhook::Webhook;
use support::{LIMIT, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Barrier, Mutex, Semaphore};
use tokio::task::JoinSet;

const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const MIB: usize = 1 << 20;

/// The most memory that the webhook may ever have in use.
const RESIDENT: u64 = 64 << 20;

/// What an API server waits for an answer by default. The webhook's configuration says 5 s; a busy machine that runs the
/// tests may take longer than one that serves.
const PATIENCE: Duration = Duration::from_secs(10);

/// Held by the tests that take all of the machine.
static MACHINE: Mutex<()> = Mutex::const_new(());

struct Served {
    webhook: Webhook,
    door: Door,
    authority: Authority,
    secret: Secret,
    folder: PathBuf,
}

impl Served {
    async fn start(name: &str) -> Served {
        let folder = std::env::temp_dir().join(format!("migration-gate-{name}-{}", std::process::id()));
        let authority = Authority::new();
        let secret = Secret::new(folder.join("tls"), &authority.issue(&[HOST]));
        let webhook = Webhook::start(HOST, secret.path(), 0).await;
        let door = Door::new(webhook.address, &authority.certificate);
        Served { webhook, door, authority, secret, folder }
    }

    /// An ordinary review is answered at once.
    async fn works(&self) {
        let start = Instant::now();
        let answer = self.door.review(&create(&deployment()).to_string().into_bytes()).await.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.text().contains("\"patch\""), "{}", answer.text());
        assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    }

    /// For whoever reads along.
    fn memory(&self, when: &str) {
        let (resident, peak) = (self.webhook.resident(), self.webhook.peak());
        eprintln!("{when}: {} MiB resident, {} MiB at the most so far", resident >> 20, peak >> 20);
    }

    /// Nothing was logged that is a defect, and the memory kept its bound.
    fn sound(&self) {
        for line in self.webhook.log() {
            assert!(line["level"] != "ERROR", "{line}");
        }
        let peak = self.webhook.peak();
        assert!(peak <= RESIDENT, "{} MiB", peak >> 20);
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": "orders", "namespace": "shop",
            "labels": {"migration-gate.dev/gated": "true"},
            "annotations": {"migration-gate.dev/command": "alembic upgrade head"},
        },
        "spec": {
            "selector": {"matchLabels": {"app": "orders"}},
            "template": {
                "metadata": {"labels": {"app": "orders"}},
                "spec": {"containers": [{"name": "web", "image": "registry.example/shop:1.0"}]},
            },
        },
    })
}

fn create(object: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
            "resource": {"group": "apps", "version": "v1", "resource": "deployments"},
            "namespace": "shop", "name": "orders", "operation": "CREATE",
            "userInfo": {"username": "somebody"}, "dryRun": false, "object": object,
        },
    })
}

/// A review of about so many bytes.
fn large(bytes: usize) -> Vec<u8> {
    let mut object = deployment();
    object["metadata"]["annotations"]["note"] = json!("x".repeat(bytes));
    create(&object).to_string().into_bytes()
}

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

/// Sends the same body from many connections at once; the statuses of the answers.
async fn flood(door: &Door, connections: usize, body: Vec<u8>) -> Vec<u16> {
    let request = Arc::new(request(&body));
    // The heads go first: a client that is busy with another's body is a slow client, which is another test's matter.
    let heads = Arc::new(Barrier::new(connections));
    let handshakes = Arc::new(Semaphore::new(8));
    let head = request.len() - body.len();
    let mut all = JoinSet::new();
    for _ in 0..connections {
        let (door, request) = (door.clone(), request.clone());
        let (heads, handshakes) = (heads.clone(), handshakes.clone());
        all.spawn(async move {
            let turn = handshakes.acquire().await.expect("it stays open");
            let mut connection = door.open().await.expect("a connection");
            connection.send(&request[..head]).await.expect("an open connection");
            drop(turn);
            heads.wait().await;
            // The answer may come before all is sent, and the end of the connection after it.
            let _ = connection.send(&request[head..]).await;
            connection.answer().await.expect("an answer").status
        });
    }
    all.join_all().await
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_large_bodies_take_bounded_memory() {
    let _alone = MACHINE.lock().await;
    let served = Served::start("floods").await;
    served.works().await;
    served.memory("at first");
    let count = |statuses: &[u16], status: u16| statuses.iter().filter(|one| **one == status).count();
    let oversized = flood(&served.door, 256, large(8 * MIB)).await;
    assert_eq!(count(&oversized, 413), 256, "{oversized:?}");
    served.works().await;
    served.memory("after 256 bodies of 8 MiB");
    let largest = flood(&served.door, 256, large(6 * MIB)).await;
    let answered = |statuses: &[u16]| [200, 400, 408, 503].iter().map(|status| count(statuses, *status)).sum::<usize>();
    assert_eq!(answered(&largest), 256, "{largest:?}");
    let alone = served.door.review(&large(6 * MIB)).await.expect("an answer");
    assert_eq!(alone.status, 200, "{}", alone.text());
    served.memory("after 256 reviews of 6 MiB");
    served.works().await;
    // Not reviews, but as dear to parse as JSON gets.
    for body in ["[".repeat(6 * MIB), format!("[{}0]", "[],".repeat(2 * MIB)), format!("[{}0]", "0,".repeat(3 * MIB))] {
        let dear = flood(&served.door, 16, body.into_bytes()).await;
        assert_eq!(answered(&dear), 16, "{dear:?}");
        served.memory("after 16 times 6 MiB of brackets or numbers");
    }
    // As dear, but where a review has its object.
    let mut review = create(&json!("@")).to_string();
    review = review.replace("\"@\"", &format!("[{}0]", "{},".repeat(2 * MIB)));
    let dear = flood(&served.door, 16, review.into_bytes()).await;
    assert_eq!(answered(&dear), 16, "{dear:?}");
    served.memory("after 16 reviews of 6 MiB of empty objects");
    served.works().await;
    served.sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_slow_do_not_keep_the_others_waiting() {
    let _alone = MACHINE.lock().await;
    let served = Served::start("slow").await;
    let mut slow = JoinSet::new();
    let hello = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01];
    for number in 0..1000_usize {
        let door = served.door.clone();
        slow.spawn(async move {
            // Only their end tells: the server closes them, in its own time.
            match number % 4 {
                0 => until_closed(&door, &[]).await,
                1 => until_closed(&door, &hello).await,
                2 => dribble(&door, b"POST /mutate HTTP/1.1\r\nhost: x\r\nx: ").await,
                _ => {
                    let head = "POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
                    dribble(&door, format!("{head}content-length: 100000\r\n\r\n").as_bytes()).await;
                }
            }
            number % 4
        });
    }
    eventually("the slow ones to be there", async || {
        (served.webhook.metric("migration_gate_connections").await >= 500.0).then_some(())
    })
    .await;
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let start = Instant::now();
        served.works().await;
        slowest = slowest.max(start.elapsed());
    }
    eprintln!("beside 1000 slow connections the slowest of 20 reviews took {slowest:?}");
    let mut ended = [0; 4];
    let all = async {
        while let Some(kind) = slow.join_next().await {
            ended[kind.expect("no panic")] += 1;
        }
    };
    let timely = tokio::time::timeout(LIMIT, all).await;
    assert!(timely.is_ok(), "silent, half a handshake, half a head, half a body: of 250 each {ended:?} ended");
    served.works().await;
    assert!(served.webhook.metric("migration_gate_connections_dropped_total").await >= 500.0);
    served.sound();
}

/// Sends a beginning, and waits until the server has enough of it.
async fn until_closed(door: &Door, beginning: &[u8]) {
    let Ok(mut stream) = door.tcp().await else { return };
    if stream.write_all(beginning).await.is_ok() {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
}

/// Sends a byte now and then until the server has enough of it.
async fn dribble(door: &Door, head: &[u8]) {
    let Ok(mut connection) = door.open().await else { return };
    if connection.send(head).await.is_err() {
        return;
    }
    loop {
        let mut byte = [0];
        tokio::select! {
            read = connection.stream.read(&mut byte) => if read.is_err() || read.is_ok_and(|read| read == 0) { return },
            () = tokio::time::sleep(Duration::from_millis(500)) => if connection.send(b" ").await.is_err() { return },
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pairs_that_cannot_serve_are_counted_and_the_old_one_serves_on() {
    let mut served = Served::start("pairs").await;
    let good = served.authority.issue(&[HOST]);
    let other = served.authority.issue(&[HOST]);
    let mut count = 0.0;
    for (what, pair) in [
        ("an empty certificate", (String::new(), good.1.clone())),
        ("half a certificate", (good.0[..good.0.len() / 2].to_owned(), good.1.clone())),
        ("another's key", (good.0.clone(), other.1.clone())),
        ("800 kB", (good.0.repeat(1500), good.1.clone())),
        ("no key", (good.0.clone(), good.0.clone())),
    ] {
        served.secret.swap(&pair);
        count += 1.0;
        eventually(what, async || {
            (served.webhook.metric("migration_gate_certificate_errors_total").await == count).then_some(())
        })
        .await;
        served.works().await;
    }
    served.secret.swap(&good);
    eventually("the good pair", async || {
        (served.webhook.metric("migration_gate_certificate_reloads_total").await == 1.0).then_some(())
    })
    .await;
    served.works().await;
    let said =
        served.webhook.log().iter().filter(|line| line["message"] == "the old certificate stays in service").count();
    assert_eq!(said, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_in_order_and_says_why_it_cannot_start() {
    let served = Served::start("end").await;
    let mut idle = served.door.open().await.expect("a connection");
    idle.send(&request(b"{}")).await.expect("sent");
    assert_eq!(idle.answer().await.expect("an answer").status, 400);
    served.webhook.terminate();
    eventually("readiness to go", async || {
        let page = served.webhook.health_page("/readyz").await?;
        page.contains("503").then_some(())
    })
    .await;
    let answer: Answer = served.door.review(b"{}").await.expect("it still serves");
    assert!(answer.head.contains("connection: close"), "{}", answer.head);
    eventually("the process to end", async || served.webhook.health_page("/healthz").await.is_none().then_some(()))
        .await;

    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_migration-gate"));
        let output = command.arg("webhook").args(arguments).output().expect("the program was just built");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = run(&["--agent-image", "x", "--tls-dir", "/nowhere"]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("can't read /nowhere/tls.crt: No such file or directory"), "{said}");
    let tls = served.secret.path().to_str().expect("a path");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let (code, said) = run(&["--agent-image", "x", "--tls-dir", tls, "--listen", &address]);
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains(&format!("can't listen on {address}")), "{said}");
    assert_eq!(run(&[]).0, Some(64));
}
