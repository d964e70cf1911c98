//! Many large bodies at once take bounded memory.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::{Barrier, Semaphore};
use tokio::task::JoinSet;

use crate::served::{MACHINE, MIB, Served, create, deployment, large};
use crate::support::https::{Door, request};

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
    // And where a Deployment has its pod template.
    let mut gated = deployment();
    gated["spec"]["template"]["spec"]["x"] = json!("@");
    for piece in ["{},", "0,", "[0],", r#"{"a":0},"#] {
        let many = format!("[{}0]", piece.repeat(6 * MIB / piece.len()));
        let dear = create(&gated).to_string().replace("\"@\"", &many);
        let dear = flood(&served.door, 16, dear.into_bytes()).await;
        assert_eq!(answered(&dear), 16, "{dear:?}");
        served.memory("after 16 reviews of 6 MiB of small values in a pod template");
    }
    served.works().await;
    served.sound();
}
