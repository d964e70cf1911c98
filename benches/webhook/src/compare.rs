//! Throughput, latency, processor time and memory of each server, in turns, so that whatever else the machine does meets
//! all of them alike.

use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use migration_gate_contract::{annotation, label};
use serde_json::{Value, json};

use crate::Failure;
use crate::load::{self, Door};
use crate::reviews::{self, Question, Size};
use crate::rivals::{Identity, LOOPBACK, Place, Rival, Running};
use crate::table::{Table, quantile};

/// How many connections ask at once.
const CONNECTIONS: [usize; 2] = [1, 64];

/// How many connections are held while memory is read.
const HELD: usize = 256;

/// What was seen of one server with one kind of load, a number for each round.
#[derive(Default)]
struct Seen {
    per_second: Vec<u64>,
    p50: Vec<Duration>,
    p99: Vec<Duration>,
    processor: Duration,
    answers: u32,
}

/// One kind of load.
struct Case {
    size: Size,
    question: Question,
    connections: usize,
    request: Vec<u8>,
    seen: [Seen; Rival::ALL.len()],
}

/// Measures, and returns the tables.
pub fn run(program: &Path, rounds: usize, duration: Duration) -> Result<String, Failure> {
    let identity = Identity::new(&[LOOPBACK])?;
    let mut servers = Vec::new();
    for rival in Rival::ALL {
        let running = Running::start(rival, LOOPBACK, &identity, program, Place::Core)?;
        let door = Door::new(running.address, &identity.authority)?;
        servers.push((running, door));
    }
    let mut cases = Vec::new();
    for size in Size::ALL {
        let injected = check(size, &servers)?;
        for question in Question::ALL {
            let request = load::request(&reviews::review(question, size, &injected));
            for connections in CONNECTIONS {
                cases.push(Case { size, question, connections, request: request.clone(), seen: Default::default() });
            }
        }
    }
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        for case in &mut cases {
            for ((running, door), seen) in servers.iter().zip(&mut case.seen) {
                let before = running.processor_time()?;
                let mut latencies = load::run(door, &case.request, case.connections, duration)?;
                seen.processor += running.processor_time()? - before;
                seen.answers += u32::try_from(latencies.len() + case.connections)?;
                seen.per_second.push((latencies.len() as f64 / duration.as_secs_f64()) as u64);
                seen.p50.extend(quantile(&mut latencies, 500));
                seen.p99.extend(quantile(&mut latencies, 990));
            }
        }
    }
    let memory = memory(&servers, &cases[0].request)?;
    Ok(format!("{}\n{memory}", table(&mut cases)))
}

/// Sees that the servers do the same, and returns the injected Deployment.
fn check(size: Size, servers: &[(Running, Door)]) -> Result<Value, Failure> {
    let mut by_ours = None;
    for (running, door) in servers.iter().filter(|(running, _)| running.rival != Rival::Floor) {
        let injected = injected_by(door, size)?;
        let kept = ask(door, Question::StickyUpdate, size, &injected)?;
        if kept["response"]["allowed"] != true || !kept["response"]["patch"].is_null() {
            return Err(format!("{} doesn't keep its injection: {kept}", running.rival.name()).into());
        }
        if ask(door, Question::Denial, size, &Value::Null)?["response"]["allowed"] != false {
            return Err(format!("{} doesn't deny", running.rival.name()).into());
        }
        match &by_ours {
            None => by_ours = Some(injected),
            Some(ours) if comparable(ours) == comparable(&injected) => {}
            Some(ours) => return Err(format!("not the same patch: {ours}\n{injected}").into()),
        }
    }
    by_ours.ok_or_else(|| "nobody injects".into())
}

/// The Deployment as a server makes it.
pub fn injected_by(door: &Door, size: Size) -> Result<Value, Failure> {
    let answer = ask(door, Question::Create, size, &Value::Null)?;
    let patch = BASE64_STANDARD.decode(answer["response"]["patch"].as_str().ok_or("no patch")?)?;
    let mut injected = reviews::deployment(size);
    let patch: json_patch::Patch = serde_json::from_slice(&patch)?;
    json_patch::patch(&mut injected, &patch)?;
    Ok(injected)
}

/// A server's answer to one review.
fn ask(door: &Door, question: Question, size: Size, injected: &Value) -> Result<Value, Failure> {
    let request = load::request(&reviews::review(question, size, injected));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { Ok(serde_json::from_slice(&door.open().await?.ask(&request).await?)?) })
}

/// The object without the identity and the note, which each computes in its own way, and with empty objects left out.
fn comparable(object: &Value) -> Value {
    let mut object = object.clone();
    let metadata = &mut object["spec"]["template"]["metadata"];
    metadata["labels"][label::MIGRATION] = json!("");
    metadata["annotations"][annotation::INJECTED] = json!("");
    without_empty(&object)
}

fn without_empty(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| (key.clone(), without_empty(value)));
            Value::Object(fields.filter(|(_, value)| !value.is_null() && *value != json!({})).collect())
        }
        Value::Array(items) => items.iter().map(without_empty).collect(),
        plain => plain.clone(),
    }
}

fn table(cases: &mut [Case]) -> String {
    let mut table =
        Table::new(&["review", "body", "c", "server", "requests/s", "of the floor", "p50", "p99", "processor/request"]);
    for case in cases {
        let per_second = case.seen.each_mut().map(|seen| quantile(&mut seen.per_second, 500).unwrap_or(0));
        let floor = per_second[Rival::ALL.len() - 1];
        for ((rival, seen), per_second) in Rival::ALL.iter().zip(&mut case.seen).zip(per_second) {
            let microseconds = |time: Option<Duration>| format!("{} µs", time.unwrap_or_default().as_micros());
            table.row(vec![
                format!("{} {}", case.size.name(), case.question.name()),
                format!("{} B", case.request.len()),
                case.connections.to_string(),
                rival.name().to_owned(),
                per_second.to_string(),
                format!("{} %", 100 * per_second / floor.max(1)),
                microseconds(quantile(&mut seen.p50, 500)),
                microseconds(quantile(&mut seen.p99, 500)),
                format!("{:.1} µs", seen.processor.as_secs_f64() * 1e6 / f64::from(seen.answers.max(1))),
            ]);
        }
    }
    table.text()
}

fn memory(servers: &[(Running, Door)], request: &[u8]) -> Result<String, Failure> {
    let mut table = Table::new(&["server", "resident after the load", "with 256 connections that asked"]);
    for (running, door) in servers {
        let after = running.resident()?;
        let held = load::hold(door, request, HELD, || running.resident())?;
        table.row(vec![running.rival.name().to_owned(), format!("{after} kB"), format!("{held} kB")]);
    }
    Ok(table.text())
}
