//! Very many new groups in one namespace, all at once: what each asks of the API server, and what that takes.

use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use kube::Client;

use crate::megabytes;
use crate::support::controller::Controller;
use crate::support::pods::{Kind, Place, Pods};
use crate::support::{Result, answered, boot, eventually_every, make_namespace, make_node, quiet, say};

const PLACE: Place<'static> = Place { namespace: "shop", nodes: 1 };
/// Pods of each group.
const PODS: usize = 2;
/// Groups that are made at once, which is not measured.
const AT_ONCE: usize = 16;

/// A patch of a pod is a run signal here: nothing else is written to one.
const SIGNALS: &[&str] = &[r#"resource="pods""#, r#"verb="PATCH""#, r#"subresource="status""#];

/// What is counted.
const REQUESTS: [(&str, &[&str]); 9] = [
    ("lists of records", &[r#"resource="migrationgates""#, r#"verb="LIST""#]),
    ("records made", &[r#"resource="migrationgates""#, r#"verb="POST""#]),
    ("patches of records' metadata", &[r#"resource="migrationgates""#, r#"verb="PATCH""#, r#"subresource="""#]),
    ("patches of records' status", &[r#"resource="migrationgates""#, r#"verb="PATCH""#, r#"subresource="status""#]),
    ("lists of pods", &[r#"resource="pods""#, r#"verb="LIST""#]),
    ("pods read", &[r#"resource="pods""#, r#"verb="GET""#]),
    ("patches of pods", SIGNALS),
    ("events made", &[r#"resource="events""#, r#"verb="POST""#]),
    ("nodes and Leases of nodes read", &[r#"resource="nodes""#, r#"verb="GET""#]),
];

/// Measures it.
pub async fn measure(groups: usize) -> Result<()> {
    let (cluster, client) = boot("bench-scale-new").await?;
    make_namespace(&client, PLACE.namespace).await?;
    make_node(&client, "node-0").await?;
    say(&format!("making {groups} groups while no controller runs"));
    let making = (0..groups).map(|at| {
        let client = &client;
        async move { Pods::make(client, PLACE, &format!("new{at}"), PODS, Kind::Gated).await }
    });
    let made: Vec<Pods> = futures::stream::iter(making).buffer_unordered(AT_ONCE).try_collect().await?;
    let signalled = answered(&client, SIGNALS).await? + made.len() as u64;
    let before = counts(&client).await?;
    let start = Instant::now();
    let controller = Controller::start(&cluster, "first").await?;
    let ready = start.elapsed();
    // Not by looking at the pods: lists of them are counted.
    let every = Duration::from_millis(100);
    eventually_every(every, "run signals", async || Ok((answered(&client, SIGNALS).await? >= signalled).then_some(())))
        .await?;
    let elected = start.elapsed();
    quiet(&client).await?;
    let requests = counts(&client).await?;
    println!(
        "\n{groups} new groups of {PODS} pods in one namespace at once: all elected {:.1} s after the controller's start (ready after {:.1} s); \
         resident {}, peak {}; {:.1} s of a processor.",
        elected.as_secs_f64(),
        ready.as_secs_f64(),
        megabytes(controller.resident()?),
        megabytes(controller.peak()?),
        controller.cpu()?.as_secs_f64(),
    );
    println!("\n| requests | in all | for each group |");
    println!("|---|---:|---:|");
    for ((name, _), (before, after)) in REQUESTS.iter().zip(before.into_iter().zip(requests)) {
        println!("| {name} | {} | {:.3} |", after - before, (after - before) as f64 / groups as f64);
    }
    controller.end()?;
    cluster.down()?;
    Ok(())
}

async fn counts(client: &Client) -> Result<Vec<u64>> {
    let mut counts = Vec::new();
    for (_, parts) in REQUESTS {
        counts.push(answered(client, parts).await?);
    }
    Ok(counts)
}
