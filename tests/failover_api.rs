//! What becomes of a group when its leading controller dies, ends, or sleeps through what others do.

mod support;

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use support::controller::{Controller, GATES, World};
use support::eventually;

use migration_gate::controller::lease::{DURATION, PERIOD};

/// What a busy machine adds to any time.
const SLACK: Duration = Duration::from_secs(4);

impl World {
    /// Waits until somebody whose name this is has the lease.
    async fn led_by(&self, identity: &str) {
        let lease = "/apis/coordination.k8s.io/v1/namespaces/shop/leases/migration-gate-controller";
        eventually("the lease", async || {
            let lease = self.administrator.get(lease).await.ok()?;
            (lease["spec"]["holderIdentity"] == identity).then_some(())
        })
        .await;
    }

    /// The versions of the record and of the pods: whoever writes to one of them changes it.
    async fn versions(&self, name: &str) -> Vec<Value> {
        let objects = [vec![self.record(name).await], self.pods(name).await].concat();
        objects.iter().map(|object| object["metadata"]["resourceVersion"].clone()).collect()
    }

    async fn record(&self, name: &str) -> Value {
        self.administrator.get(&format!("{GATES}/{name}.deployment")).await.expect("the record")
    }

    /// Waits until an attempt is on record as ended, and returns how.
    async fn outcome(&self, name: &str, attempt: u64) -> Value {
        eventually("the outcome", async || {
            let record = self.record(name).await;
            let attempts = record["status"]["migrations"][0]["attempts"].as_array().cloned().unwrap_or_default();
            let ended = attempts.into_iter().find(|ended| ended["number"] == attempt)?;
            Some(ended["outcome"].clone())
        })
        .await
    }
}

#[tokio::test]
async fn another_acts_within_the_lease_time_after_a_kill_and_within_a_second_after_an_end() {
    let world = World::boot("t-failover").await;
    let first = Controller::start(&world.cluster, "a");
    world.led_by("a").await;
    world.deploy("orders", 2).await;
    world.agents_run("orders", 2).await;
    let (runner, attempt) = world.elected("orders").await;
    let second = Controller::start(&world.cluster, "b");
    second.is_ready().await;
    // The runner ends while nobody leads; its report is waiting for whoever comes next.
    first.signal(Signal::KILL);
    let killed = Instant::now();
    world.verdict(&runner, attempt, "succeeded").await;
    world.all_open("orders", 2).await;
    let took = killed.elapsed();
    println!("after a SIGKILL of the leader the gates were open within {:.1} s", took.as_secs_f32());
    assert!(took <= DURATION + PERIOD + SLACK, "{took:?}");

    let third = Controller::start(&world.cluster, "c");
    third.is_ready().await;
    world.deploy("billing", 1).await;
    world.agents_run("billing", 1).await;
    let (runner, attempt) = world.elected("billing").await;
    world.verdict(&runner, attempt, "failed").await;
    world.outcome("billing", attempt).await;
    let ended = Instant::now();
    second.signal(Signal::TERM);
    world.led_by("c").await;
    let took = ended.elapsed();
    println!("after the leader ended another had the lease within {:.2} s", took.as_secs_f32());
    second.end();
    assert!(took <= Duration::from_secs(1), "{took:?}");
    third.end();
    world.cluster.down().expect("nothing is left behind");
}

/// So long the leader sleeps.
const SLEEP: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_leader_that_wakes_up_after_a_minute_writes_nothing() {
    let world = World::boot("t-sleeper").await;
    let sleeper = Controller::start(&world.cluster, "a");
    world.led_by("a").await;
    world.deploy("orders", 2).await;
    world.agents_run("orders", 2).await;
    let (runner, first) = world.elected("orders").await;
    let other = Controller::start(&world.cluster, "b");
    other.is_ready().await;

    // What happens now waits in the sleeper's connections: it is the first that it hears of when it wakes up.
    sleeper.stop().await;
    let asleep = Instant::now();
    world.verdict(&runner, first, "failed").await;
    assert_eq!(world.outcome("orders", first).await, "Failed");
    println!("after a SIGSTOP of the leader another recorded within {:.1} s", asleep.elapsed().as_secs_f32());
    let (runner, second) = eventually("the second attempt", async || {
        let (pod, attempt) = world.elected("orders").await;
        (attempt > first).then_some((pod, attempt))
    })
    .await;
    eventually("the signal to be on record", async || {
        world.record("orders").await["status"]["active"]["signalledAt"].is_string().then_some(())
    })
    .await;
    // The minute is what this is about.
    tokio::time::sleep(SLEEP.saturating_sub(asleep.elapsed())).await;

    let before = world.versions("orders").await;
    sleeper.signal(Signal::CONT);
    eventually("the sleeper to notice", async || sleeper.log().contains("another").then_some(())).await;
    assert_eq!(world.versions("orders").await, before, "it wrote something");
    assert_eq!(world.record("orders").await["status"]["active"]["attempt"], second);

    world.verdict(&runner, second, "succeeded").await;
    world.all_open("orders", 2).await;
    // It can lead again.
    other.end();
    world.led_by("a").await;
    sleeper.end();
    world.cluster.down().expect("nothing is left behind");
}
