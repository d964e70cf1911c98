//! Very many groups: memory while all wait and when all are open, what a new leader takes to act, and what rest costs.

use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use kube::Client;
use testcluster::Cluster;

use crate::megabytes;
use crate::support::controller::Controller;
use crate::support::pods::{Kind, Place, Pods, Runner};
use crate::support::{Result, boot, eventually, get, make_namespace, make_node, number, quiet, restless, say};

/// Groups of each namespace.
const GROUPS: usize = 100;
/// Nodes that the pods are on.
const NODES: usize = 100;
/// Groups that are made at once, which is not measured.
const AT_ONCE: usize = 16;

/// Measures it.
pub async fn measure(groups: usize, pods: usize) -> Result<()> {
    let (cluster, client) = boot("bench-scale-many").await?;
    for at in 0..NODES {
        make_node(&client, &format!("node-{at}")).await?;
    }
    let namespaces: Vec<String> = (0..groups.div_ceil(GROUPS)).map(|at| format!("shop-{at}")).collect();
    for namespace in &namespaces {
        make_namespace(&client, namespace).await?;
    }
    println!("\n{groups} groups of {pods} pods in {} namespaces on {NODES} nodes:\n", namespaces.len());
    let controller = Controller::start(&cluster, "first").await?;
    let idle = controller.resident()?;
    say(&format!("making {groups} groups"));
    let making = (0..groups).map(|at| {
        let (client, place) = (&client, Place { namespace: &namespaces[at / GROUPS], nodes: NODES });
        async move {
            let made = Pods::make(client, place, &format!("many{at}"), pods, Kind::Gated).await?;
            let runner = made.elected().await?;
            if at % 500 == 499 {
                say(&format!("{} groups are there", at + 1));
            }
            Ok::<_, Box<dyn std::error::Error>>((made, runner))
        }
    });
    let made: Vec<(Pods, Runner)> = futures::stream::iter(making).buffer_unordered(AT_ONCE).try_collect().await?;
    quiet(&client).await?;
    let all = (groups * pods) as u64;
    let (waiting, peak) = (controller.resident()?, controller.peak()?);
    println!(
        "- all wait: {} resident, {} at the peak, {} before; {} bytes a waiting pod, what its group takes included",
        megabytes(waiting),
        megabytes(peak),
        megabytes(idle),
        waiting.saturating_sub(idle) / all
    );
    rest(&client, &controller, "while all wait").await?;

    // The last in the order of keys, or nearly so, is what a new leader comes to last.
    let mut made = made;
    made.sort_by_key(|(pods, _)| pods.key());
    let (pods_of_last, runner) = made.pop().ok_or("there is no group")?;
    let second = new_leader(&client, &cluster, controller, &pods_of_last, &runner).await?;
    second.end()?;

    let start = Instant::now();
    let third = Controller::start(&cluster, "third").await?;
    let ready = start.elapsed();
    quiet(&client).await?;
    println!(
        "- a controller that starts among them: ready after {:.1} s, {} resident, {} at the peak, {:.1} s of a processor",
        ready.as_secs_f64(),
        megabytes(third.resident()?),
        megabytes(third.peak()?),
        third.cpu()?.as_secs_f64()
    );

    say("all succeed");
    let (opened, cpu, start) = (third.opened().await?, third.cpu()?, Instant::now());
    let ending = made.iter().map(|(_, runner)| runner.succeed(&client));
    futures::stream::iter(ending).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    let open = opened + (made.len() * pods) as u64;
    eventually("open gates", async || Ok((third.opened().await? >= open).then_some(()))).await?;
    let took = start.elapsed();
    quiet(&client).await?;
    println!(
        "- all succeed within {:.0} s: {:.0} gates a second, {:.2} ms of a processor for each; {} resident, {} at the peak",
        took.as_secs_f64(),
        (made.len() * pods) as f64 / took.as_secs_f64(),
        (third.cpu()? - cpu).as_secs_f64() * 1000.0 / (made.len() * pods) as f64,
        megabytes(third.resident()?),
        megabytes(third.peak()?)
    );
    rest(&client, &third, "when all are open").await?;
    third.end()?;
    cluster.down()?;
    Ok(())
}

/// What a controller does when nothing happens.
async fn rest(client: &Client, controller: &Controller, when: &str) -> Result<()> {
    let time = Duration::from_secs(number("SCALE_REST", 60)? as u64);
    say(&format!("at rest {when} for {time:?}"));
    let (requests, cpu, start) = (restless(client).await?, controller.cpu()?, Instant::now());
    tokio::time::sleep(time).await;
    let (requests, cpu) = (restless(client).await? - requests, controller.cpu()? - cpu);
    println!(
        "- at rest {when}: {:.2} % of a processor, {requests} requests in {:.0} s beside watches and the Lease",
        100.0 * cpu.as_secs_f64() / start.elapsed().as_secs_f64(),
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Another takes over, and opens the gates of a group whose migration ended while nobody led.
async fn new_leader(
    client: &Client,
    cluster: &Cluster,
    first: Controller,
    pods: &Pods,
    runner: &Runner,
) -> Result<Controller> {
    let second = Controller::start(cluster, "second").await?;
    first.end()?;
    runner.succeed(client).await?;
    const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases/migration-gate-controller";
    eventually("the second to lead", async || {
        Ok((get(client, LEASE).await?["spec"]["holderIdentity"] == "second").then_some(()))
    })
    .await?;
    let held = Instant::now();
    eventually("open gates", async || Ok((second.opened().await? >= pods.names.len() as u64).then_some(()))).await?;
    let acted = held.elapsed();
    quiet(client).await?;
    println!(
        "- a new leader has opened the last group's gates {:.2} s after it held the Lease, and opened {} in all",
        acted.as_secs_f64(),
        second.opened().await?
    );
    Ok(second)
}
