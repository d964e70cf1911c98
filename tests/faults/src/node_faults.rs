//! What can happen to the node that the runner is on. Each of these mends the node afterwards, whatever came of it.

use std::time::{Duration, Instant};

use migration_gate::contract::ending::LONGEST_ENDING;
use migration_gate::controller::evidence::NODE_SILENCE;

use crate::arena::LIMIT;
use crate::case::{Case, Run};
use crate::run::{Company, Fault, Injected, Rounds, Way};
use crate::shape::{Loyalty, Patience, Shape};
use crate::{Result, promise};

/// All of them.
pub const ALL: &[Fault] = &[
    Fault { shape: Shape::STUBBORN, ..fault("node drained", drain) },
    fault("node rebooted", reboot),
    Fault { shape: Shape::STUBBORN, ..fault("Node object deleted, kubelet alive", delete_node) },
    Fault {
        shape: Shape { patience: Patience::Endless, ..Shape::USUAL },
        ..fault("node cut off, pod deleted, command ends behind the partition", end_behind_partition)
    },
    Fault {
        shape: Shape { patience: Patience::Endless, loyalty: Loyalty::Endless, ..Shape::USUAL },
        ..fault("node cut off, command goes on after the partition", outlast_partition)
    },
    fault("node off, taken out of service", switch_off),
    fault("taken out of service, runtime down, Lease renewed", taint_alive),
    Fault { shape: Shape::STUBBORN, ..fault("taken out of service, kubelet stopped until then", fence_alive) },
];

/// How long nobody else may be elected, beyond the time after which a silent node would be believed dead.
const HOLD: Duration = NODE_SILENCE.saturating_add(Duration::from_secs(20));
const TAINT: &str = "node.kubernetes.io/out-of-service";

const fn fault(name: &'static str, inject: fn(&Case<'_>) -> Result<Injected>) -> Fault {
    Fault { name, shape: Shape::USUAL, company: Company::Alone, rounds: Rounds::All, inject }
}

/// The runner, its node, and the node's number.
struct Victim<'a> {
    case: &'a Case<'a>,
    run: Run,
    node: String,
    index: usize,
}

impl<'a> Victim<'a> {
    fn of(case: &'a Case<'a>) -> Result<Victim<'a>> {
        let run = case.wait_for_run()?;
        let node = case.node_of(&run.pod)?;
        let index = case.arena.node_index(&node)?;
        Ok(Victim { case, run, node, index })
    }

    fn wait_until_ready(&self, wanted: bool) -> Result<()> {
        self.case.arena.wait_for_node(&self.node, wanted)
    }

    /// Waits until Kubernetes has given the runner up, and somebody else could be elected.
    fn wait_until_given_up(&self) -> Result<()> {
        self.case.arena.wait("the runner to be given up and replaced", LIMIT, || {
            let pods = self.case.pods()?;
            let given_up = |pod: &&serde_json::Value| {
                pod["metadata"]["uid"] == self.run.uid.as_str() && !pod["metadata"]["deletionTimestamp"].is_null()
            };
            // The agent is the only container that can be running while a pod is in its init phase for long.
            let waiting = |pod: &&serde_json::Value| {
                pod["metadata"]["deletionTimestamp"].is_null()
                    && pod["spec"]["nodeName"] != self.node.as_str()
                    && pod["status"]["initContainerStatuses"]
                        .as_array()
                        .is_some_and(|all| all.last().is_some_and(|last| !last["state"]["running"].is_null()))
            };
            let both = pods.iter().any(|pod| given_up(&pod)) && pods.iter().any(|pod| waiting(&pod));
            Ok(if both { Ok(()) } else { Err(self.case.story()) })
        })
    }

    /// Looks for so long whether anybody else starts.
    fn nobody_else_starts(&self, hold: Duration) -> Result<()> {
        let begin = Instant::now();
        self.case.arena.wait("the time to pass", hold + LIMIT, || {
            Ok(if begin.elapsed() >= hold || self.case.runs().len() > 1 { Ok(()) } else { Err(String::new()) })
        })?;
        let runs = self.case.runs();
        promise(runs == [self.run.clone()], || format!("others were started beside a live runner: {runs:?}"))
    }

    fn taint(&self) -> Result<()> {
        let taint = format!("{TAINT}=nodeshutdown:NoExecute");
        self.case.arena.site.cluster.kubectl(&["taint", "node", &self.node, &taint])?;
        Ok(())
    }

    fn untaint(&self) -> Result<()> {
        self.case.arena.site.cluster.kubectl(&["taint", "node", &self.node, &format!("{TAINT}-")])?;
        Ok(())
    }
}

fn drain(case: &Case<'_>) -> Result<Injected> {
    let victim = Victim::of(case)?;
    case.finish_from(victim.run.attempt + 1)?;
    let injected = Injected::now();
    let kubectl = |arguments: &[&str]| case.arena.site.cluster.kubectl(arguments);
    let drained =
        kubectl(&["drain", &victim.node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=120s"]);
    kubectl(&["uncordon", &victim.node])?;
    drained?;
    Ok(injected)
}

fn reboot(case: &Case<'_>) -> Result<Injected> {
    let victim = Victim::of(case)?;
    case.finish_from(victim.run.attempt + 1)?;
    case.arena.site.cluster.kill_node(victim.index)?;
    case.arena.site.cluster.start_node(victim.index)?;
    // Its kubelet is up; that the node was off may not have been noticed at all.
    Ok(Injected::now())
}

/// Its kubelet goes on as before, and so does the runner, until the agent sees the mark.
fn delete_node(case: &Case<'_>) -> Result<Injected> {
    let victim = Victim::of(case)?;
    case.finish_from(victim.run.attempt + 1)?;
    case.arena.api.delete(&format!("/api/v1/nodes/{}", victim.node), None)?;
    let injected = Injected::now();
    let ended = case.wait_until_fenced(&victim.run);
    // A kubelet registers its node when it starts.
    let kubelet = case.arena.site.cluster.component(&format!("kubelet-{}", victim.index))?;
    kubelet.restart()?;
    case.arena.wait("the node to be Ready again", LIMIT, || {
        // It ends when the garbage collector takes the old Node's CSINode away; a service manager starts it again.
        if kubelet.pid().is_none() {
            kubelet.restart()?;
        }
        let ready = case.arena.node_is_ready(&victim.node)?;
        Ok(if ready == Some(true) { Ok(()) } else { Err(format!("Ready: {ready:?}")) })
    })?;
    ended?;
    Ok(injected)
}

fn end_behind_partition(case: &Case<'_>) -> Result<Injected> {
    let victim = Victim::of(case)?;
    case.arena.site.cluster.partition(victim.index)?;
    let watched = victim.wait_until_given_up().and_then(|()| victim.nobody_else_starts(HOLD)).and_then(|()| {
        case.finish_from(victim.run.attempt)?;
        case.wait_for_end(&victim.run)
    });
    case.arena.site.cluster.heal(victim.index)?;
    let injected = Injected::now();
    victim.wait_until_ready(true)?;
    watched?;
    Ok(injected)
}

fn outlast_partition(case: &Case<'_>) -> Result<Injected> {
    let victim = Victim::of(case)?;
    case.arena.site.cluster.partition(victim.index)?;
    let watched = victim.wait_until_ready(false).and_then(|()| victim.nobody_else_starts(HOLD));
    case.arena.site.cluster.heal(victim.index)?;
    let injected = Injected::now();
    victim.wait_until_ready(true)?;
    watched?;
    case.finish_from(victim.run.attempt)?;
    Ok(injected)
}

fn switch_off(case: &Case<'_>) -> Result<Injected> {
    let victim = Victim::of(case)?;
    case.finish_from(victim.run.attempt + 1)?;
    case.arena.site.cluster.kill_node(victim.index)?;
    let recovered = victim.wait_until_given_up().and_then(|()| {
        // Dead as it is, nothing proves it yet.
        victim.nobody_else_starts(Duration::from_secs(5))?;
        victim.taint()?;
        let tainted = Instant::now();
        case.wait_until_ready(LIMIT)?;
        let runs = case.runs();
        promise(runs.len() == 2, || format!("not exactly one other was started: {runs:?}"))?;
        Ok(tainted.elapsed())
    });
    case.arena.site.cluster.start_node(victim.index)?;
    victim.wait_until_ready(true)?;
    // It may not have been set.
    let _ = victim.untaint();
    Ok(Injected { times: 1, way: Way::Took(recovered?) })
}

/// The node is NotReady because its container runtime is down; its kubelet says so, and says so on and on. The runner
/// needs no runtime to go on.
fn taint_alive(case: &Case<'_>) -> Result<Injected> {
    let victim = Victim::of(case)?;
    let runtime = format!("containerd-{}", victim.index);
    case.arena.site.cluster.component(&runtime)?.kill()?;
    let watched = victim.wait_until_ready(false).and_then(|()| {
        victim.taint()?;
        victim.wait_until_given_up()?;
        victim.nobody_else_starts(HOLD)
    });
    case.finish_from(victim.run.attempt + 1)?;
    case.arena.site.cluster.component(&runtime)?.restart()?;
    let injected = Injected::now();
    // It may not have been set.
    let _ = victim.untaint();
    victim.wait_until_ready(true)?;
    watched?;
    Ok(injected)
}

/// The machine lives, and nobody could know: its kubelet is silent for as long as it takes to be believed dead. The pod
/// is deleted by then, and the garbage collector has declared it failed. Then the kubelet goes on, and ends the pod.
fn fence_alive(case: &Case<'_>) -> Result<Injected> {
    let victim = Victim::of(case)?;
    case.finish_from(victim.run.attempt + 1)?;
    let kubelet = case.arena.site.cluster.component(&format!("kubelet-{}", victim.index))?;
    kubelet.pause();
    let fenced = victim.wait_until_ready(false).and_then(|()| {
        victim.wait_until_given_up()?;
        victim.taint()?;
        case.arena.wait("the attempt to be given up", LIMIT, || {
            let active = case.status()?.and_then(|status| status.active);
            let over = active.is_none_or(|active| active.attempt != victim.run.attempt);
            Ok(if over { Ok(()) } else { Err(case.story()) })
        })
    });
    kubelet.resume();
    let injected = Injected::now();
    // It may not have been set.
    let _ = victim.untaint();
    let ended = fenced.and_then(|()| case.wait_until_gone(&victim.run, LONGEST_ENDING));
    victim.wait_until_ready(true)?;
    ended?;
    Ok(injected)
}
