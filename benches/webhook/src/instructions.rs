//! Instructions for a request: the figure that no load of the machine moves. Callgrind runs the server and counts the
//! program's own instructions; the system's, which cost about the same for every server, are not among them.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::Failure;
use crate::compare::injected_by;
use crate::load::{self, Door};
use crate::reviews::{self, Question, Size};
use crate::rivals::{Identity, LOOPBACK, Place, Rival, Running};
use crate::table::Table;

/// Requests that are not counted, after which nothing is done for the first time.
const WARM_UP: usize = 20;

/// Counts so many requests of each kind, and returns the table.
pub fn run(program: &Path, requests: usize) -> Result<String, Failure> {
    let identity = Identity::new(&[LOOPBACK])?;
    let mut servers = Vec::new();
    for rival in [Rival::Floor, Rival::Ours] {
        let running = Running::start(rival, LOOPBACK, &identity, program, Place::Callgrind)?;
        let door = Door::new(running.address, &identity.authority)?;
        servers.push((running, door));
    }
    let mut table = Table::new(&["review", "body", "floor", "ours", "beyond the floor"]);
    for size in Size::ALL {
        let injected = injected_by(&servers[1].1, size)?;
        for question in Question::ALL {
            let request = load::request(&reviews::review(question, size, &injected));
            let mut counts = Vec::new();
            for (running, door) in &servers {
                counts.push(count(running, door, &request, requests, &identity)?);
            }
            let thousands = |count: u64| format!("{:.1} k", count as f64 / 1e3);
            table.row(vec![
                format!("{} {}", size.name(), question.name()),
                format!("{} B", request.len()),
                thousands(counts[0]),
                thousands(counts[1]),
                thousands(counts[1].saturating_sub(counts[0])),
            ]);
        }
    }
    Ok(table.text())
}

/// The instructions that one such request takes.
fn count(running: &Running, door: &Door, request: &[u8], requests: usize, identity: &Identity) -> Result<u64, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut connection = door.open().await?;
        for _ in 0..WARM_UP {
            connection.ask(request).await?;
        }
        counted_since_the_last_time(running, identity)?;
        for _ in 0..requests {
            connection.ask(request).await?;
        }
        Ok(counted_since_the_last_time(running, identity)? / requests as u64)
    })
}

/// Has callgrind write what it counted, and begin again.
fn counted_since_the_last_time(running: &Running, identity: &Identity) -> Result<u64, Failure> {
    let told = Command::new("callgrind_control").args(["-d", &running.id().to_string()]).output()?;
    if !told.status.success() {
        return Err(format!("callgrind_control: {}", String::from_utf8_lossy(&told.stderr)).into());
    }
    // Dumps are numbered; the newest is the one with the highest number.
    let newest =
        (1..).map(|number| identity.callgrind(running.rival, Some(number))).take_while(|file| file.exists()).last();
    let text = fs::read_to_string(newest.ok_or("callgrind wrote nothing")?)?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    Ok(total.ok_or("callgrind's file has no total")?.trim().parse()?)
}
