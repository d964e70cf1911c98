//! The start among very many: 1,000 records and 10,000 gated pods are there already, and one runner ended while no
//! controller was.

use std::time::Instant;

use futures::{StreamExt, TryStreamExt};
use kube::Client;
use testcluster::Cluster;

use crate::PLACE;
use crate::support::controller::Controller;
use crate::support::pods::{Kind, Pods, Runner};
use crate::support::{Result, all_writes, eventually, number, quiet, say};

/// Pods of each group.
const PODS: usize = 10;
/// How many groups in a hundred have a runner still running.
const RUNNING: usize = 10;
/// Groups that are made at once.
const AT_ONCE: usize = 8;

/// Measures it. `START_GROUPS` chooses another number than 1,000.
pub async fn measure(cluster: &Cluster, client: &Client) -> Result<()> {
    let groups = number("START_GROUPS", 1000)?;
    if groups == 0 {
        return Ok(());
    }
    say(&format!("start: making {groups} groups of {PODS} pods"));
    let controller = Controller::start(cluster, "first").await?;
    let making = (0..groups).map(async |at| {
        let pods = Pods::make(client, PLACE, &format!("start{at}"), PODS, Kind::Gated).await?;
        let runner = pods.elected().await?;
        Ok::<_, Box<dyn std::error::Error>>((pods, runner))
    });
    let made: Vec<(Pods, Runner)> = futures::stream::iter(making).buffer_unordered(AT_ONCE).try_collect().await?;
    let (running, done) = made.split_at(groups * RUNNING / 100);
    let ending = done.iter().map(|(_, runner)| runner.succeed(client));
    futures::stream::iter(ending).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    let open = (done.len() * PODS) as u64;
    eventually("open gates", async || Ok((controller.opened().await? >= open).then_some(()))).await?;
    quiet(client).await?;
    controller.end()?;

    let Some((pods, runner)) = running.first() else { return Err("START_GROUPS must be 10 at least".into()) };
    runner.succeed(client).await?;
    say("start: the controller starts");
    let writes = all_writes(client).await?;
    let start = Instant::now();
    let controller = Controller::start(cluster, "second").await?;
    let ready = start.elapsed();
    eventually("the one group's gates to open", async || Ok((controller.opened().await? >= PODS as u64).then_some(())))
        .await?;
    let acted = start.elapsed();
    quiet(client).await?;
    let writes = all_writes(client).await? - writes;
    pods.must_be_open().await?;
    let opened = controller.opened().await?;
    println!(
        "\nStart with {groups} records and {} pods: ready after {:.2} s, the group that ended meanwhile is open after {:.2} s.",
        groups * PODS,
        ready.as_secs_f64(),
        acted.as_secs_f64()
    );
    println!("Gates opened: {opened} (that group has {PODS}). Writes of pods and records in all: {writes}.");
    println!(
        "CPU until quiet: {:.2} s; resident: {:.1} MB, peak {:.1} MB.",
        controller.cpu()?.as_secs_f64(),
        controller.resident()? as f64 / 1e6,
        controller.peak()? as f64 / 1e6
    );
    if opened != PODS as u64 {
        return Err("gates opened that nothing opened for".into());
    }
    controller.end()
}
