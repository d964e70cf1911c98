//! What can happen to a runner's pod, its containers and its processes.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;
use testcluster::progress::step;

use crate::arena::{LIMIT, NAMESPACE, system};
use crate::case::{Case, Run, signal_of};
use crate::processes::{self, Part};
use crate::run::{Company, Fault, Injected, Rounds};
use crate::shape::{Processes, Shape};
use crate::{Error, Result, promise};

use migration_gate::contract::{self, pod};

/// The fault of an operator who gave the wrong order.
pub const CONFIRMED: &str = "ConfirmDead, command alive";

/// All of them. They don't disturb each other.
pub const ALL: &[Fault] = &[
    fault("SIGKILL of the migration", kill_migration),
    fault("SIGKILL of the agent", kill_agent),
    Fault {
        shape: Shape { processes: Processes::Shared, ..Shape::USUAL },
        ..fault("SIGKILL of the agent, shared processes", kill_agent)
    },
    fault("SIGKILL of the container", kill_container),
    fault("SIGKILL of the container within 100 ms of the signal", kill_container_at_signal),
    fault("out-of-memory kill", out_of_memory),
    fault("sandbox removed", remove_sandbox),
    fault("emptyDir emptied under the command", empty_volume),
    fault("journal removed, container killed", remove_journal),
    fault("emptyDir emptied, container killed, pod deleted", empty_volume_and_kill),
    stubborn("eviction", evict),
    stubborn("deletion of the pod", delete),
    stubborn("forced deletion of the pod", delete_by_force),
    stubborn("Deployment deleted and made anew", make_anew),
    stubborn(CONFIRMED, confirm_the_living),
    Fault {
        shape: Shape { grace: 120, ..Shape::STUBBORN },
        ..fault("ConfirmDead, command alive in a pod that is being deleted", confirm_the_leaving)
    },
    Fault { shape: Shape { time_limit: Some(1), ..Shape::STUBBORN }, ..fault("time limit over", outlast_the_limit) },
];

const fn fault(name: &'static str, inject: fn(&Case<'_>) -> Result<Injected>) -> Fault {
    Fault { name, shape: Shape::USUAL, company: Company::Others, rounds: Rounds::All, inject }
}

/// One that ends a command which does not heed SIGTERM.
const fn stubborn(name: &'static str, inject: fn(&Case<'_>) -> Result<Injected>) -> Fault {
    Fault { shape: Shape::STUBBORN, ..fault(name, inject) }
}

/// Waits for a run, and lets every later one end well.
fn victim(case: &Case<'_>) -> Result<Run> {
    let run = case.wait_for_run()?;
    case.finish_from(run.attempt + 1)?;
    Ok(run)
}

fn kill(found: &[processes::Process], what: &str) -> Result<Injected> {
    promise(!found.is_empty(), || format!("{what} is not there to be killed"))?;
    processes::kill(found);
    Ok(Injected::now())
}

fn kill_migration(case: &Case<'_>) -> Result<Injected> {
    let run = victim(case)?;
    kill(&processes::of_part(&run.uid, Part::Migration), "the migration")
}

fn kill_agent(case: &Case<'_>) -> Result<Injected> {
    let run = victim(case)?;
    kill(&processes::of_part(&run.uid, Part::Agent), "the agent")
}

fn kill_container(case: &Case<'_>) -> Result<Injected> {
    let run = victim(case)?;
    kill(&processes::of_container(&run.uid), "the container")
}

/// The signal takes longer than this on its way to the agent.
const MOMENT: Duration = Duration::from_millis(100);

fn kill_container_at_signal(case: &Case<'_>) -> Result<Injected> {
    let begin = Instant::now();
    let mut containers = HashMap::new();
    loop {
        for pod in case.pods().unwrap_or_default() {
            let uid = pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
            if let Some(contract::Signal::Run(signal)) = signal_of(&pod) {
                let seen = Instant::now();
                let found = containers.remove(&uid).filter(|found: &Vec<_>| !found.is_empty());
                let injected = kill(&found.unwrap_or_else(|| processes::of_container(&uid)), "the container")?;
                // Whoever runs this attempt from now on may end it: an agent that is started before its volume shows the
                // signal sees it appear, and obeys.
                case.finish_from(signal.attempt)?;
                // On a machine that is too busy this becomes the fault before it; it is still one.
                if seen.elapsed() > MOMENT {
                    step(format!("{}: the container was killed {:?} after the signal", case.name, seen.elapsed()));
                }
                return Ok(injected);
            }
            // Found before it is needed: to look takes time.
            if containers.get(&uid).is_none_or(Vec::is_empty) {
                containers.insert(uid.clone(), processes::of_container(&uid));
            }
        }
        if begin.elapsed() > LIMIT {
            return Err(Error::Broken(format!("nobody was signalled: {}", case.story())));
        }
    }
}

fn out_of_memory(case: &Case<'_>) -> Result<Injected> {
    let run = victim(case)?;
    let eaters = processes::of_part(&run.uid, Part::Migration);
    case.eat(run.attempt)?;
    case.arena.wait("the kernel to kill the migration", LIMIT, || {
        let left = processes::of_part(&run.uid, Part::Migration);
        Ok(if left.iter().any(|one| eaters.contains(one)) { Err("it lives".to_owned()) } else { Ok(()) })
    })?;
    Ok(Injected::now())
}

fn remove_sandbox(case: &Case<'_>) -> Result<Injected> {
    let run = victim(case)?;
    kill(&processes::of_part(&run.uid, Part::Sandbox), "the sandbox")
}

fn empty_volume(case: &Case<'_>) -> Result<Injected> {
    let run = case.wait_for_run()?;
    empty(case, &run, "")?;
    let injected = Injected::now();
    case.finish_from(run.attempt)?;
    Ok(injected)
}

fn remove_journal(case: &Case<'_>) -> Result<Injected> {
    let run = victim(case)?;
    let journal = pod::JOURNAL_PATH.strip_prefix(pod::VOLUME_PATH).unwrap_or_default();
    empty(case, &run, journal.trim_start_matches('/'))?;
    kill(&processes::of_container(&run.uid), "the container")
}

/// Without the agent's binary nothing can be started in that pod any more. It is not dead for all that, and nobody
/// else is elected, until somebody deletes it.
fn empty_volume_and_kill(case: &Case<'_>) -> Result<Injected> {
    let run = victim(case)?;
    empty(case, &run, "")?;
    kill(&processes::of_container(&run.uid), "the container")?;
    case.arena.api.delete(&case.pod_path(&run.pod), None)?;
    Ok(Injected::now())
}

/// Empties a folder of the pod's volume.
fn empty(case: &Case<'_>, run: &Run, below: &str) -> Result<()> {
    let node = case.node_of(&run.pod)?;
    let cluster = case.arena.site.cluster.kubeconfig();
    let pod = cluster.with_file_name(node).join("kubelet/pods").join(&run.uid);
    let folder = pod.join("volumes/kubernetes.io~empty-dir").join(pod::VOLUME).join(below);
    for entry in fs::read_dir(&folder).map_err(|error| system(&folder, error))? {
        let path = entry.map_err(|error| system(&folder, error))?.path();
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(|error| system(&path, error))?;
    }
    Ok(())
}

fn evict(case: &Case<'_>) -> Result<Injected> {
    let run = victim(case)?;
    let eviction = json!({ "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": { "name": run.pod, "namespace": NAMESPACE } });
    case.arena.api.create(&format!("{}/eviction", case.pod_path(&run.pod)), &eviction)?;
    Ok(Injected::now())
}

fn delete(case: &Case<'_>) -> Result<Injected> {
    let run = victim(case)?;
    case.arena.api.delete(&case.pod_path(&run.pod), None)?;
    Ok(Injected::now())
}

fn delete_by_force(case: &Case<'_>) -> Result<Injected> {
    let run = victim(case)?;
    case.arena.api.delete(&case.pod_path(&run.pod), Some(0))?;
    Ok(Injected::now())
}

fn make_anew(case: &Case<'_>) -> Result<Injected> {
    let run = case.wait_for_run()?;
    case.arena.api.delete(&case.deployment(), None)?;
    case.deploy()?;
    let injected = Injected::now();
    case.wait_until_gone(&run, LIMIT)?;
    // A record that is made anew may count from one again.
    case.finish_from(1)?;
    Ok(injected)
}

/// The operator is mistaken: the command lives until its agent sees the mark.
fn confirm_the_living(case: &Case<'_>) -> Result<Injected> {
    let run = victim(case)?;
    case.confirm_dead(&run)?;
    let injected = Injected::now();
    case.wait_until_fenced(&run)?;
    Ok(injected)
}

/// The same, and the kubelet has asked the command to end already and gives it two minutes. It shows no mark to the agent
/// of a pod that it is ending.
fn confirm_the_leaving(case: &Case<'_>) -> Result<Injected> {
    let run = victim(case)?;
    case.arena.api.delete(&case.pod_path(&run.pod), None)?;
    case.confirm_dead(&run)?;
    let injected = Injected::now();
    case.wait_until_gone(&run, LIMIT)?;
    Ok(injected)
}

fn outlast_the_limit(case: &Case<'_>) -> Result<Injected> {
    let run = victim(case)?;
    case.wait_until_gone(&run, LIMIT)?;
    Ok(Injected::now())
}
