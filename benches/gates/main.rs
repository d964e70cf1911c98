//! How fast the gates of N waiting pods open, beside what the API server can take from a client that does nothing else.
//!
//! A real API server and the real controller; pods that nobody runs, whose kubelet's words are said here. For each N, in
//! one run: a bare client sends N passes to N other pods with the concurrency that suited the API server best; one of
//! the waiting pods reports success, and the controller opens all; the bare client goes once more. What is over in
//! seconds is done several times, each with a controller of its own; the table has the medians. Then the controller
//! starts afresh with all of them there.
//!
//! `make bench-gates`; `PODS=100,1000` chooses other numbers.

mod bare;
mod start;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use kube::Client;
use testcluster::Cluster;

use bare::Bare;
use support::controller::Controller;
use support::pods::{Kind, Place, Pods};
use support::{Result, answered, boot, eventually_every, make_namespace, make_node, say};

/// Where the pods are.
pub const PLACE: Place<'static> = Place { namespace: "shop", nodes: 1 };
/// What a pass is to the API server.
const PASSES: [&str; 3] = [r#"resource="pods""#, r#"subresource="status""#, r#"verb="PATCH""#];

/// One line of the table.
struct Line {
    pods: usize,
    opened_in: Duration,
    bare: Duration,
    concurrency: usize,
    writes: u64,
    cpu: Duration,
    before: u64,
    waiting: u64,
    peak: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    // `cargo bench` and `cargo test --benches` pass arguments of their own.
    let numbers = std::env::var("PODS").unwrap_or_else(|_| "100,1000,10000".to_owned());
    let numbers: Vec<usize> = numbers.split(',').map(str::parse).collect::<std::result::Result<_, _>>()?;
    let (cluster, client) = boot("bench-gates").await?;
    make_namespace(&client, PLACE.namespace).await?;
    make_node(&client, "node-0").await?;
    let mut lines = Vec::new();
    for number in numbers {
        lines.push(measure(&cluster, &client, number).await?);
    }
    table(&lines);
    start::measure(&cluster, &client).await
}

/// How often so many are measured: what takes the shorter a time varies the more.
fn rounds(number: usize) -> usize {
    match number {
        0..500 => 7,
        500..5000 => 3,
        _ => 1,
    }
}

async fn measure(cluster: &Cluster, client: &Client, number: usize) -> Result<Line> {
    let bare = Bare::new(client.clone());
    let concurrency = bare.best_concurrency(&format!("pilot{number}")).await?;
    let mut lines = Vec::new();
    for round in 0..rounds(number) {
        lines.push(once(cluster, client, &bare, concurrency, number, round).await?);
    }
    Ok(Line::medians(&lines))
}

async fn once(
    cluster: &Cluster,
    client: &Client,
    bare: &Bare,
    concurrency: usize,
    number: usize,
    round: usize,
) -> Result<Line> {
    say(&format!("{number} pods: making them"));
    let others = Pods::make(client, PLACE, &format!("bare{number}-{round}"), number, Kind::Other).await?;
    let controller = Controller::start(cluster, "bench").await?;
    let before = controller.resident()?;
    let waiting = Pods::make(client, PLACE, &format!("gated{number}-{round}"), number, Kind::Gated).await?;
    let runner = waiting.elected().await?;
    let at_rest = controller.resident()?;

    say(&format!("{number} pods: the bare client, {concurrency} at once"));
    let half = others.names.len() / 2;
    let first = bare.open(&others, 0..half, concurrency).await?;

    say(&format!("{number} pods: the controller"));
    let writes = answered(client, &PASSES).await?;
    let opened = controller.opened().await?;
    let cpu = controller.cpu()?;
    runner.succeed(client).await?;
    let recorded = waiting.recorded().await?;
    // Each look costs the controller something: a fiftieth of the time that it will take is often enough.
    let every = (2 * first / 50).max(Duration::from_millis(2));
    eventually_every(every, "open gates", async || {
        Ok((controller.opened().await? >= opened + number as u64).then_some(()))
    })
    .await?;
    let opened_in = recorded.elapsed();
    let cpu = controller.cpu()? - cpu;
    waiting.must_be_open().await?;
    // What the bench itself wrote: the kubelet's word.
    let writes = answered(client, &PASSES).await? - writes - 1;
    let peak = controller.peak()?;

    say(&format!("{number} pods: the bare client again"));
    let second = bare.open(&others, half..number, concurrency).await?;
    controller.end()?;
    waiting.delete(client).await?;
    others.delete(client).await?;
    let line = Line {
        pods: number,
        opened_in,
        bare: first + second,
        concurrency,
        writes,
        cpu,
        before,
        waiting: at_rest,
        peak,
    };
    say(&format!("{number} pods: {:.3} s, the bare client {:.3} s", opened_in.as_secs_f64(), line.bare.as_secs_f64()));
    Ok(line)
}

impl Line {
    /// Of several rounds, the median of each column by itself.
    fn medians(lines: &[Line]) -> Line {
        fn median<T: Ord + Copy>(lines: &[Line], column: impl Fn(&Line) -> T) -> T {
            let mut all: Vec<T> = lines.iter().map(column).collect();
            all.sort_unstable();
            all[all.len() / 2]
        }
        Line {
            pods: lines[0].pods,
            concurrency: lines[0].concurrency,
            opened_in: median(lines, |line| line.opened_in),
            bare: median(lines, |line| line.bare),
            // Not one more in any round.
            writes: lines.iter().map(|line| line.writes).max().unwrap_or_default(),
            cpu: median(lines, |line| line.cpu),
            before: median(lines, |line| line.before),
            waiting: median(lines, |line| line.waiting),
            peak: median(lines, |line| line.peak),
        }
    }
}

fn table(lines: &[Line]) {
    println!(
        "\n| pods | all open after s | gates/s | bare client's patches/s (at once) | of its speed | writes a pod | CPU ms a pod | resident MB: idle, waiting, peak | bytes a waiting pod |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for line in lines {
        let each = line.pods as f64;
        let (ours, bare) = (each / line.opened_in.as_secs_f64(), each / line.bare.as_secs_f64());
        println!(
            "| {} | {:.2} | {ours:.0} | {bare:.0} ({}) | {:.0} % | {:.3} | {:.2} | {:.1}, {:.1}, {:.1} | {:.0} |",
            line.pods,
            line.opened_in.as_secs_f64(),
            line.concurrency,
            100.0 * ours / bare,
            line.writes as f64 / each,
            line.cpu.as_secs_f64() * 1000.0 / each,
            line.before as f64 / 1e6,
            line.waiting as f64 / 1e6,
            line.peak as f64 / 1e6,
            line.waiting.saturating_sub(line.before) as f64 / each,
        );
    }
}
