//! The certificate that is followed, the start and the end.

use crate::served::{HOST, Served};
use crate::support::eventually;
use crate::support::files::Secret;
use crate::support::https::{Answer, request};

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
        ("one that expired", served.authority.issue_expired(&[HOST])),
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
    assert_eq!(said, 6);
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
    let mut expired = Secret::new(served.folder.join("expired"), &served.authority.issue_expired(&[HOST]));
    let (code, said) = run(&["--agent-image", "x", "--tls-dir", expired.path().to_str().expect("a path")]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("tls.crt expired at 2021-01-01T00:00:00Z"), "{said}");
    expired.swap(&served.authority.issue(&[HOST]));
    let tls = expired.path().to_str().expect("a path");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let (code, said) = run(&["--agent-image", "x", "--tls-dir", tls, "--listen", &address]);
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains(&format!("can't listen on {address}")), "{said}");
    assert_eq!(run(&[]).0, Some(64));
}
