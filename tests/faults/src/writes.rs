//! The controller is killed at every one of its writes, once before and once after it, and the world moves on while
//! it is down: the runner ends well and its pod is deleted before anybody asks.
//!
//! The points are not listed anywhere: the n-th write of one migration is hit for n = 1, 2, … until a whole migration
//! has fewer writes than that.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use migration_gate::contract::Signal;

use crate::arena::{Arena, LIMIT, system};
use crate::case::{Case, signal_of};
use crate::control_faults;
use crate::outside::Controller;
use crate::proxy::{Point, Proxy, Side, Write};
use crate::run::{Injected, judge};
use crate::shape::Shape;
use crate::{Result, Row, Verdict, processes, promise};

/// More writes than one migration needs; that it ends before is checked.
const MOST: usize = 60;

/// Which of the writes are hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Points {
    /// Every one.
    All,
    /// One of so many.
    OneOf(usize),
}

/// Kills a controller of our own at every write.
///
/// # Errors
/// When the controller can't be started, or the cluster not be asked.
pub fn enumerate(arena: &Arena, points: Points) -> Result<Vec<Row>> {
    with_own_controller(arena, |outside| at_every_write(outside, points))
}

/// Runs this with no controller in the cluster, but a way for one outside of it.
///
/// # Errors
/// When there is no such way, or the cluster can't be asked.
pub fn with_own_controller<T>(arena: &Arena, run: impl FnOnce(&Outside<'_>) -> Result<T>) -> Result<T> {
    control_faults::scale(arena, 0)?;
    let result = Outside::new(arena).and_then(|outside| run(&outside));
    control_faults::scale(arena, 2)?;
    result
}

fn at_every_write(outside: &Outside<'_>, points: Points) -> Result<Vec<Row>> {
    let stride = match points {
        Points::All => 1,
        Points::OneOf(stride) => stride,
    };
    let sides = [
        (Side::Before, Row::new("controller SIGKILLed before a write, at every write")),
        (Side::After, Row::new("controller SIGKILLed after a write, at every write")),
    ];
    let mut rows = Vec::new();
    for (side, mut row) in sides {
        // Not the same ones on both sides, where not all are hit.
        let first = if side == Side::Before { 1 } else { 1 + stride / 2 };
        for write in (first..MOST).step_by(stride) {
            let Some(verdict) = outside.hit(Point { write: Write::Number(write), side })? else { break };
            row.add(verdict);
        }
        promise(row.times() < MOST / stride, || "a migration has no end of writes".to_owned())?;
        rows.push(row);
    }
    Ok(rows)
}

/// A controller of ours whose writes go through a proxy.
pub struct Outside<'a> {
    arena: &'a Arena,
    proxy: Proxy,
    kubeconfig: PathBuf,
}

impl<'a> Outside<'a> {
    fn new(arena: &'a Arena) -> Result<Outside<'a>> {
        let proxy = Proxy::start(&arena.site.cluster.kubeconfig())?;
        let kubeconfig = arena.site.cluster.folder("proxy")?.join("kubeconfig");
        fs::write(&kubeconfig, proxy.kubeconfig()).map_err(|error| system(&kubeconfig, error))?;
        Ok(Outside { arena, proxy, kubeconfig })
    }

    /// Starts the controller.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(&self) -> Result<Controller> {
        Controller::start(self.arena, &self.kubeconfig)
    }

    /// Starts a controller that is killed at this point.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start_until(&self, point: Point) -> Result<Controller> {
        let controller = self.start()?;
        self.proxy.kill_at(point, controller.pid());
        Ok(controller)
    }

    /// The write at which the controller was killed, once it is dead.
    #[must_use]
    pub fn struck(&self, controller: &mut Controller) -> Option<String> {
        self.proxy.struck().filter(|_| controller.ended().is_some())
    }

    /// Lets the next controller write.
    pub fn let_through(&self) {
        self.proxy.let_through();
    }

    /// Kills it at this point of one migration; none if the migration has fewer writes.
    fn hit(&self, point: Point) -> Result<Option<Verdict>> {
        let mut controller = self.start_until(point)?;
        let case = Case::open(self.arena, Shape::USUAL)?;
        case.finish_from(1)?;
        let write = self.arena.wait("the controller to die or the migration to be over", LIMIT, || {
            if let Some(write) = self.struck(&mut controller) {
                return Ok(Ok(Some(write)));
            }
            Ok(if case.is_settled()? { Ok(None) } else { Err(case.story()) })
        })?;
        let moved_on = write.as_ref().map_or(Ok(()), |_| self.move_on(&case));
        self.let_through();
        let again = Instant::now();
        if write.is_some() {
            controller = self.start()?;
        }
        let ready = moved_on.and_then(|()| case.wait_until_ready(LIMIT));
        let verdict =
            judge(case, ready, Injected::at(again), &format!("{point:?} {}", write.as_deref().unwrap_or("none")));
        drop(controller);
        write.map(|_| verdict).transpose()
    }

    /// What happens while nobody decides: whoever was told to run does so and ends well, and its pod is deleted; or the
    /// one that was elected and not told, or any other.
    fn move_on(&self, case: &Case<'_>) -> Result<()> {
        let pods = case.pods()?;
        let runner = pods.iter().find(|pod| matches!(signal_of(pod), Some(Signal::Run(_))));
        let elected = case.status()?.and_then(|status| status.active).map(|active| active.pod_uid);
        let elected = pods.iter().find(|pod| elected.as_deref() == pod["metadata"]["uid"].as_str());
        let Some(victim) = runner.or(elected).or(pods.first()) else { return Ok(()) };
        let text = |key: &str| victim["metadata"][key].as_str().unwrap_or_default().to_owned();
        let (name, uid) = (text("name"), text("uid"));
        if runner.is_some() {
            self.arena.wait("the runner to end", LIMIT, || {
                let pod = self.arena.api.get(&case.pod_path(&name))?.unwrap_or_default();
                let ended =
                    case.runs().iter().any(|run| case.has_ended(run)) && processes::of_container(&uid).is_empty();
                // An agent that found its signal there when it started answers it by exiting.
                let states = pod["status"]["initContainerStatuses"].as_array();
                let exited = states.and_then(|all| all.last()).is_some_and(|last| {
                    !last["state"]["terminated"].is_null() || !last["lastState"]["terminated"].is_null()
                });
                Ok(if ended || exited { Ok(()) } else { Err(case.story()) })
            })?;
        }
        self.arena.api.delete(&case.pod_path(&name), None)
    }
}
