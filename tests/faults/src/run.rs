//! Injecting a fault so many times, and judging what came of it.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use testcluster::progress::step;

use crate::arena::{Arena, LIMIT};
use crate::case::{Case, Tally};
use crate::shape::Shape;
use crate::{Result, Row, Table};

/// Cases that are hurt at the same time, where they don't disturb each other. Most of their time they wait.
const AT_ONCE: usize = 4;

/// Whether a fault hurts others than its own case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Company {
    /// It does not.
    Others,
    /// It does: a node, a controller, the API server.
    Alone,
}

/// In which rounds a fault is injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounds {
    /// In each.
    All,
    /// In the first only: it is made of many already.
    First,
}

/// A fault.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// What people call it.
    pub name: &'static str,
    /// How the pods are made.
    pub shape: Shape,
    /// Whom it hurts.
    pub company: Company,
    /// When it is injected.
    pub rounds: Rounds,
    /// Injects it into a new case, mends what it hurt besides, and lets the case's migration end.
    pub inject: fn(&Case<'_>) -> Result<Injected>,
}

/// A fault that was injected.
#[derive(Clone, Copy, Debug)]
pub struct Injected {
    /// How often.
    pub times: usize,
    /// The way back.
    pub way: Way,
}

/// The way from the end of a fault to pods that are all Ready.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    /// It began then and is not over yet.
    From(Instant),
    /// It took so long.
    Took(Duration),
}

impl Injected {
    /// Once, just now.
    #[must_use]
    pub fn now() -> Injected {
        Injected::at(Instant::now())
    }

    /// Once, then.
    #[must_use]
    pub fn at(over: Instant) -> Injected {
        Injected { times: 1, way: Way::From(over) }
    }
}

/// How often faults are injected.
#[derive(Clone, Copy, Debug)]
pub struct Amount {
    /// Those of pods.
    pub of_pods: usize,
    /// Those of nodes and of the control plane.
    pub of_others: usize,
}

/// What came of one injection.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    /// How often the fault was injected.
    pub times: usize,
    /// What the witnesses say.
    pub tally: Tally,
    /// Pods that did not become Ready, or that did not go when they should.
    pub stuck: usize,
    /// From the end of the fault until all pods were Ready.
    pub recovery: Duration,
}

/// Injects each of these faults so often as it should be, and tells in a table what came of them.
///
/// # Errors
/// When the cluster itself can't be hurt or asked.
pub fn run(arena: &Arena, faults: &[Fault], amount: Amount) -> Result<Table> {
    let alike = |company| faults.iter().filter(move |fault| fault.company == company);
    let jobs = (0..amount.of_pods).flat_map(|_| alike(Company::Others).copied()).collect();
    let rows = Mutex::new(faults.iter().map(|fault| Row::new(fault.name)).collect::<Vec<_>>());
    crowd(arena, jobs, &rows)?;
    for round in 0..amount.of_others {
        for fault in alike(Company::Alone).filter(|fault| round == 0 || fault.rounds == Rounds::All) {
            note(&rows, fault, once(arena, fault)?);
        }
    }
    Ok(Table(rows.into_inner().unwrap_or_else(PoisonError::into_inner)))
}

/// Several at a time.
fn crowd(arena: &Arena, jobs: VecDeque<Fault>, rows: &Mutex<Vec<Row>>) -> Result<()> {
    let jobs = Mutex::new(jobs);
    std::thread::scope(|scope| {
        let work = || -> Result<()> {
            loop {
                let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some(fault) = job else { return Ok(()) };
                note(rows, &fault, once(arena, &fault)?);
            }
        };
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

fn note(rows: &Mutex<Vec<Row>>, fault: &Fault, verdict: Verdict) {
    let mut rows = rows.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(row) = rows.iter_mut().find(|row| row.fault == fault.name) {
        row.add(verdict);
    }
}

/// Injects a fault once.
fn once(arena: &Arena, fault: &Fault) -> Result<Verdict> {
    let case = Case::open(arena, fault.shape)?;
    let name = case.name.clone();
    step(format!("{name}: {}", fault.name));
    let injected = (fault.inject)(&case);
    let at = *injected.as_ref().unwrap_or(&Injected::now());
    let ready = case.wait_until_ready(LIMIT);
    judge(case, injected.and(ready), at, fault.name)
}

/// Ends a case after its fault, and says what came of it. `ready` is how the way back went.
pub fn judge(case: Case<'_>, ready: Result<()>, injected: Injected, fault: &str) -> Result<Verdict> {
    let recovery = match injected.way {
        Way::From(over) => over.elapsed(),
        Way::Took(time) => time,
    };
    let (name, mut stuck) = (case.name.clone(), 0);
    if let Err(error) = ready {
        stuck += 1;
        step(format!("{name}: {fault}: {error}\n{}", case.agents()));
    }
    let tally = case.tally()?;
    let history = case.history();
    stuck += case.close()?;
    step(format!("{name}: {fault}: {:.1} s, {tally:?}, {stuck} stuck; {history}", recovery.as_secs_f32()));
    Ok(Verdict { times: injected.times, tally, stuck, recovery })
}
