//! The evening: nothing is done any more, so that everything must come to its end, and then to rest.

use std::time::{Duration, Instant};

use crate::audit::Audit;
use crate::chronicle::Chronicle;
use crate::processes::Usage;
use crate::witness::Witness;
use crate::witness::blame::Promise;
use crate::witness::calm::Unsettled;
use crate::{Result, pair::Pair};

/// How long nothing may be written before it counts as rest.
pub const SILENCE: Duration = Duration::from_secs(30);
/// How long everything may stand still before it counts as stuck, and how long after everything has come to its end there
/// may be no rest. The longest that anything waits for is what follows an operator's mistake: a minute until the command
/// that was said to be dead must have ended.
const STUCK: Duration = Duration::from_secs(180);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(500);
/// As much counts between two looks, at the most: where the whole machine stands still, nobody else is to blame.
const ATTENTION: Duration = Duration::from_secs(2);
/// As much is told of what is stuck.
const TOLD: usize = 40;
/// The memory of a controller, whatever happens: what is promised for a hundred times as many pods.
const MEMORY: u64 = 100 * 1000 * 1000;

/// How an evening went.
#[derive(Clone, Debug)]
pub struct Evening {
    /// How long it took until everything had come to its end.
    pub settled_after: Duration,
    /// What each controller used.
    pub usage: Vec<Usage>,
    /// The time on processors of both, in each second of the rest.
    pub cpu: f64,
    /// What the controllers asked for during the rest, their watches and the Lease left aside.
    pub requests: usize,
}

/// Waits until everything has come to its end and to rest, and judges what is left. Nothing comes back, if that never
/// happens; then it was blamed.
///
/// # Errors
/// When the audit log or the processes can't be read.
pub async fn wait(
    witness: &Witness,
    chronicle: &Chronicle,
    audit: &mut Audit,
    pair: &tokio::sync::Mutex<Pair>,
) -> Result<Option<Evening>> {
    let begin = Instant::now();
    let mut settled: Option<Instant> = None;
    let mut window: Option<Window> = None;
    let (mut said, mut looked) = (begin, begin);
    // Since anything went forward, and since everything had come to its end.
    let (mut still, mut restless, mut last) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    loop {
        tokio::time::sleep(LOOK).await;
        audit.read()?;
        let (unsettled, forward) = {
            let books = witness.books();
            (books.unsettled(), books.forward())
        };
        let passed = looked.elapsed().min(ATTENTION);
        looked = Instant::now();
        still = if forward == last { still + passed } else { Duration::ZERO };
        restless = if unsettled.is_empty() { restless + passed } else { Duration::ZERO };
        last = forward;
        if said.elapsed() > Duration::from_secs(20) {
            said = Instant::now();
            let first = unsettled.first().map_or("waiting for silence", |one| one.why.as_str());
            eprintln!(
                "[soak {:8.1}s] evening: {} things unsettled; {first}",
                chronicle.now().as_secs_f64(),
                unsettled.len()
            );
        }
        if !unsettled.is_empty() {
            (settled, window) = (None, None);
            if still > STUCK {
                blame_the_stuck(witness, &unsettled);
                blame_the_restless(witness, audit);
                return Ok(None);
            }
            continue;
        }
        let since = *settled.get_or_insert_with(Instant::now);
        let silent = audit.silence().unwrap_or(SILENCE).min(since.elapsed());
        if silent < LOOK * 2 || window.is_none() {
            window = Some(Window::open(audit, pair).await?);
        }
        if silent >= SILENCE
            && let Some(window) = window
        {
            let mut evening = window.close(audit, pair).await?;
            evening.settled_after = since.duration_since(begin);
            witness.books().judge_calm();
            blame_the_large(witness, &evening.usage);
            return Ok(Some(evening));
        }
        if restless > STUCK {
            blame_the_restless(witness, audit);
            witness.books().judge_calm();
            return Ok(None);
        }
    }
}

/// A time in which nothing is written.
struct Window {
    since: Instant,
    requests: usize,
    usage: Vec<Usage>,
}

impl Window {
    async fn open(audit: &Audit, pair: &tokio::sync::Mutex<Pair>) -> Result<Window> {
        Ok(Window { since: Instant::now(), requests: audit.requests(), usage: pair.lock().await.usage()? })
    }

    async fn close(self, audit: &Audit, pair: &tokio::sync::Mutex<Pair>) -> Result<Evening> {
        let usage = pair.lock().await.usage()?;
        let cpu = |usage: &[Usage]| usage.iter().map(|one| one.cpu).sum::<Duration>().as_secs_f64();
        Ok(Evening {
            settled_after: Duration::ZERO,
            cpu: (cpu(&usage) - cpu(&self.usage)) / self.since.elapsed().as_secs_f64(),
            requests: audit.requests() - self.requests,
            usage,
        })
    }
}

fn blame_the_stuck(witness: &Witness, unsettled: &[Unsettled]) {
    let mut books = witness.books();
    for one in unsettled.iter().take(TOLD) {
        let what = format!("nothing went forward for {} s: {}", STUCK.as_secs(), one.why);
        books.blame(Promise::Progress, one.about.clone(), what);
    }
}

/// Everybody who was written in the last half minute.
fn blame_the_restless(witness: &Witness, audit: &Audit) {
    let mut books = witness.books();
    for (count, what) in audit.latest(SILENCE).into_iter().take(TOLD) {
        let object = what.split(' ').nth(2).unwrap_or_default().to_owned();
        let what = format!("nothing changes, and in the last {} s there was {count} times: {what}", SILENCE.as_secs());
        books.blame(Promise::Rest, vec![object], what);
    }
}

fn blame_the_large(witness: &Witness, usage: &[Usage]) {
    for one in usage.iter().filter(|one| one.resident > MEMORY) {
        let what = format!("{} has {:.1} MB resident", one.name, one.resident as f64 / 1e6);
        witness.books().blame(Promise::Memory, vec![one.name.clone()], what);
    }
}
