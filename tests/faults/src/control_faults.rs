//! What can happen to the controller and to the control plane.

use serde_json::json;

use crate::arena::{Arena, LIMIT};
use crate::case::{Case, Run};
use crate::processes::{self, Part};
use crate::run::{Company, Fault, Injected, Rounds};
use crate::shape::Shape;
use crate::{Error, Result, promise};

/// All of them.
pub const ALL: &[Fault] = &[
    fault("leading controller SIGKILLed, runner ended and deleted", kill_leader),
    fault("no controller while the runner ended and was deleted", no_controller),
    Fault { rounds: Rounds::First, ..fault("API server SIGKILLed during one migration", kill_api_server) },
    Fault { rounds: Rounds::First, ..fault("etcd SIGKILLed during one migration", kill_etcd) },
];

/// Where migration-gate runs.
pub const SYSTEM: &str = "migration-gate-system";
const CONTROLLER: &str = "migration-gate-controller";

const fn fault(name: &'static str, inject: fn(&Case<'_>) -> Result<Injected>) -> Fault {
    Fault { name, shape: Shape::USUAL, company: Company::Alone, rounds: Rounds::All, inject }
}

/// The UID of the controller's pod that leads.
fn leader(arena: &Arena) -> Result<String> {
    arena.wait("a leader", LIMIT, || {
        let lease = format!("/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/{CONTROLLER}");
        let lease = arena.api.get(&lease)?.unwrap_or_default();
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned();
        if holder.is_empty() {
            return Ok(Err("nobody holds the lease".to_owned()));
        }
        let pod = arena.api.get(&format!("/api/v1/namespaces/{SYSTEM}/pods/{holder}"))?.unwrap_or_default();
        let uid = pod["metadata"]["uid"].as_str().map(str::to_owned);
        Ok(uid.ok_or_else(|| format!("{holder} is no pod any more")))
    })
}

/// Lets the runner end well, and deletes its pod as soon as its container is gone.
fn end_and_delete(case: &Case<'_>, run: &Run) -> Result<()> {
    case.finish_from(run.attempt)?;
    case.wait_for_end(run)?;
    case.arena.api.delete(&case.pod_path(&run.pod), None)
}

fn kill_leader(case: &Case<'_>) -> Result<Injected> {
    let run = case.wait_for_run()?;
    let mut controller = processes::of_pod(&leader(case.arena)?);
    controller.retain(|process| process.part() != Part::Sandbox);
    promise(!controller.is_empty(), || "the controller has no process".to_owned())?;
    processes::kill(&controller);
    let injected = Injected::now();
    end_and_delete(case, &run)?;
    Ok(injected)
}

fn no_controller(case: &Case<'_>) -> Result<Injected> {
    let run = case.wait_for_run()?;
    let ended = scale(case.arena, 0).and_then(|()| end_and_delete(case, &run));
    scale(case.arena, 2)?;
    ended?;
    Ok(Injected::now())
}

/// Runs so many controllers, and waits until there are no more and no less.
pub fn scale(arena: &Arena, replicas: usize) -> Result<()> {
    let deployment = format!("/apis/apps/v1/namespaces/{SYSTEM}/deployments/{CONTROLLER}");
    arena.api.merge(&format!("{deployment}/scale"), &json!({ "spec": { "replicas": replicas } }))?;
    arena.wait(&format!("{replicas} controllers"), LIMIT, || {
        let pods = format!("/api/v1/namespaces/{SYSTEM}/pods?labelSelector=app.kubernetes.io%2Fname%3D{CONTROLLER}");
        let pods = arena.api.get(&pods)?.unwrap_or_default();
        let count = pods["items"].as_array().map_or(0, Vec::len);
        Ok(if count == replicas { Ok(()) } else { Err(format!("there are {count}")) })
    })
}

/// So often each is killed while one migration runs.
const API_SERVER_KILLS: usize = 50;
const ETCD_KILLS: usize = 20;

fn kill_api_server(case: &Case<'_>) -> Result<Injected> {
    storm(case, "kube-apiserver", API_SERVER_KILLS)
}

fn kill_etcd(case: &Case<'_>) -> Result<Injected> {
    storm(case, "etcd", ETCD_KILLS)
}

/// Kills a program again and again, each time as soon as the API answered.
fn storm(case: &Case<'_>, program: &str, times: usize) -> Result<Injected> {
    let run = case.wait_for_run()?;
    for _ in 0..times {
        case.arena.site.cluster.component(program)?.restart()?;
        let answered =
            case.arena.wait("the API to answer", LIMIT, || Ok(case.status()?.map(drop).ok_or_else(String::new)));
        answered.map_err(|error| Error::Broken(format!("after a SIGKILL of {program}: {error}")))?;
    }
    let injected = Injected { times, ..Injected::now() };
    promise(case.runs() == [run.clone()], || format!("others were started meanwhile: {:?}", case.runs()))?;
    case.finish_from(run.attempt)?;
    Ok(injected)
}
