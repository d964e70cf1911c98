//! Who is slow keeps nobody else waiting.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::served::{MACHINE, Served};
use crate::support::https::Door;
use crate::support::{LIMIT, eventually};

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
