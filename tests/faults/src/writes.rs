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
use crate::case::{Case, Shape, signal_of};
use crate::control_faults;
use crate::outside::Controller;
use crate::proxy::{Point, Proxy, Side};
use crate::run::{Injected, judge};
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
    control_faults::scale(arena, 0)?;
    let rows = with_own_controller(arena, points);
    control_faults::scale(arena, 2)?;
    rows
}

fn with_own_controller(arena: &Arena, points: Points) -> Result<Vec<Row>> {
    let proxy = Proxy::start(&arena.site.cluster.kubeconfig())?;
    let kubeconfig = arena.site.cluster.folder("proxy")?.join("kubeconfig");
    fs::write(&kubeconfig, proxy.kubeconfig()).map_err(|error| system(&kubeconfig, error))?;
    let outside = Outside { arena, proxy, kubeconfig };
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
            let Some(verdict) = outside.hit(Point { write, side })? else { break };
            row.add(verdict);
        }
        promise(row.times() < MOST / stride, || "a migration has no end of writes".to_owned())?;
        rows.push(row);
    }
    Ok(rows)
}

/// A controller of ours whose writes go through a proxy.
struct Outside<'a> {
    arena: &'a Arena,
    proxy: Proxy,
    kubeconfig: PathBuf,
}

impl Outside<'_> {
    /// Kills it at this point of one migration; none if the migration has fewer writes.
    fn hit(&self, point: Point) -> Result<Option<Verdict>> {
        let mut controller = Controller::start(self.arena, &self.kubeconfig)?;
        self.proxy.kill_at(point, controller.pid());
        let case = Case::open(self.arena, Shape::USUAL)?;
        case.finish_from(1)?;
        let write = self.arena.wait("the controller to die or the migration to be over", LIMIT, || {
            if let (Some(write), Some(_)) = (self.proxy.struck(), controller.ended()) {
                return Ok(Ok(Some(write)));
            }
            Ok(if case.is_settled()? { Ok(None) } else { Err(case.story()) })
        })?;
        let moved_on = write.as_ref().map_or(Ok(()), |_| self.move_on(&case));
        self.proxy.let_through();
        let again = Instant::now();
        if write.is_some() {
            controller = Controller::start(self.arena, &self.kubeconfig)?;
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
