//! How long what takes, side by side in one run.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};
use testcluster::image::Image;
use testcluster::progress::{Seen, step};

use crate::delivery::ByImageVolume;
use crate::measure::time;
use crate::{Error, Result, Site};

const NAMESPACE: &str = "speed";
const IMAGE: &str = "docker.io/local/speed:1";
const LIMIT: Duration = Duration::from_secs(120);
/// Rollouts, and pods of each kind, that are measured.
const ROLLOUTS: usize = 10;
const PODS: usize = 10;
const REPLICAS: usize = 3;
/// How long waiting agents are watched for the time that they take from a processor.
const WATCHED: Duration = Duration::from_secs(30);

/// Measures everything. Each line is one row of a table.
///
/// # Errors
/// When the cluster does not do what is to be measured.
pub fn measure(site: &Site) -> Result<Vec<String>> {
    let archive = site.artefacts.shop.with_file_name("speed.tar");
    Image::new(IMAGE).file("/bin/busybox", testcluster::busybox()?, 0o755).user("65532:65532").build(&archive)?;
    site.cluster.load_image(&archive)?;
    let labels = json!({ "migration-gate.dev/inject": "enabled" });
    let namespace =
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE, "labels": labels } });
    site.cluster.apply(&namespace.to_string())?;
    let mut rows = vec!["| what | median | slowest |".to_owned(), "|---|---|---|".to_owned()];
    rows.extend(rollouts(site)?);
    rows.extend(waiting(site)?);
    rows.extend(starts(site)?);
    Ok(rows)
}

fn row(what: &str, values: &[f64]) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    format!("| {what} | {:.3} s | {:.3} s |", at(sorted.len() / 2), at(sorted.len().saturating_sub(1)))
}

/// Rollouts with a migration that does nothing: what remains is what the gate takes.
fn rollouts(site: &Site) -> Result<Vec<String>> {
    let (mut starts, mut opens) = (Vec::new(), Vec::new());
    for revision in 1..=ROLLOUTS {
        step(format!("rollout {revision} of {ROLLOUTS}"));
        site.cluster.apply(&manifest("gated", REPLICAS, &[("revision", &revision.to_string())]).to_string())?;
        let record = site.cluster.wait_for("the rollout", LIMIT, || {
            let deployment = site.cluster.get(&["deployment", "gated", "-n", NAMESPACE])?;
            let status = &deployment["status"];
            let fresh = status["observedGeneration"] == deployment["metadata"]["generation"];
            let all = [&status["updatedReplicas"], &status["readyReplicas"], &status["replicas"]];
            if !fresh || !all.iter().all(|count| **count == json!(REPLICAS)) {
                return Ok(Seen::NotYet(status.to_string()));
            }
            let record = site.cluster.get(&["migrationgate", "gated.deployment", "-n", NAMESPACE])?;
            let done = record["status"]["succeeded"].as_array().map_or(0, Vec::len) == revision;
            Ok(if done { Seen::Done(record) } else { Seen::NotYet(record["status"].to_string()) })
        })?;
        let newest = record["status"]["migrations"].as_array().and_then(|all| all.last()).cloned().unwrap_or_default();
        let attempts = newest["attempts"].as_array().cloned().unwrap_or_default();
        step(format!("took {} attempt(s)", attempts.len()));
        let (attempt, fingerprint) = (attempts.last().cloned().unwrap_or_default(), text(&newest["fingerprint"]));
        let (started, ended) = (time(&attempt["started"])?, time(&attempt["ended"])?);
        let log = site.cluster.kubectl(&[
            "logs",
            "-n",
            NAMESPACE,
            "--timestamps",
            &text(&attempt["pod"]),
            "-c",
            "migration-gate-migrate",
        ])?;
        let waits = log.lines().find(|line| line.contains("waiting until")).and_then(|line| line.split(' ').next());
        starts.push(started.duration_since(time(&json!(waits))?).as_secs_f64());
        opens.push(last_open(site, &fingerprint)?.duration_since(ended).as_secs_f64());
    }
    Ok(vec![
        row("elected pod's agent waits → command starts", &starts),
        row("command ended → last of 3 gates open", &opens),
    ])
}

/// When the API server had written the last pass for a migration's pods, by its audit log.
fn last_open(site: &Site, fingerprint: &str) -> Result<Timestamp> {
    let selector = format!("migration-gate.dev/migration={fingerprint}");
    let pods = site.cluster.get(&["pods", "-n", NAMESPACE, "-l", &selector])?;
    let names: Vec<String> =
        pods["items"].as_array().into_iter().flatten().map(|pod| text(&pod["metadata"]["name"])).collect();
    let path = site.cluster.audit_log();
    let log = fs::read_to_string(&path).map_err(|error| crate::site::system(&path, error))?;
    let mut last = None;
    for line in log.lines() {
        let Ok(event) = serde_json::from_str::<Value>(line) else { continue };
        let of_controller = text(&event["user"]["username"]).ends_with(":migration-gate-controller");
        let reference = &event["objectRef"];
        let writes =
            event["verb"] == "patch" && reference["subresource"] == "status" && reference["resource"] == "pods";
        if of_controller && writes && names.contains(&text(&reference["name"])) {
            last = last.max(Some(time(&event["stageTimestamp"])?));
        }
    }
    last.ok_or_else(|| Error::Unreadable("the audit log has no pass".to_owned()))
}

/// Pods one after another, plain and injected with a migration that is done, the agent brought by a container and by an
/// image volume: what each adds to a start.
fn starts(site: &Site) -> Result<Vec<String>> {
    site.cluster.kubectl(&["delete", "deployment", "gated", "-n", NAMESPACE])?;
    let mut medians = Vec::new();
    let mut rows = Vec::new();
    let injected = Some(("revision", "1"));
    for (name, annotations, what) in [
        ("plain", None, "plain pod"),
        ("injected", injected, "injected pod, the agent from an init container"),
        ("mounted", injected, "injected pod, the agent from an image volume"),
    ] {
        if name == "mounted" {
            // To the end: the cluster ends with these.
            ByImageVolume::on(site, manifest("probe", 1, &[("revision", "1")]))?;
        }
        let mut deployment = manifest(name, 1, annotations.as_slice());
        if annotations.is_none() {
            deployment["metadata"] = json!({ "name": name, "namespace": NAMESPACE });
        }
        site.cluster.apply(&deployment.to_string())?;
        site.cluster.wait_for_condition(&format!("deployment/{name}"), NAMESPACE, "Available", LIMIT)?;
        let watch = Watch::of(site, name)?;
        for replicas in 2..=PODS + 1 {
            step(format!("{name} pod {} of {PODS}", replicas - 1));
            site.cluster.kubectl(&["scale", "deployment", name, "-n", NAMESPACE, &format!("--replicas={replicas}")])?;
            watch.until(replicas)?;
        }
        let mut times = watch.end();
        times.sort_by(f64::total_cmp);
        rows.push(row(&format!("{what}: created → Ready"), &times));
        medians.push(times[times.len() / 2]);
        site.cluster.kubectl(&["delete", "deployment", name, "-n", NAMESPACE])?;
    }
    for (median, how) in medians[1..].iter().zip(["an init container", "an image volume"]) {
        rows.push(format!(
            "| injection with {how} adds (difference of the medians) | {:.3} s | |",
            median - medians[0]
        ));
    }
    Ok(rows)
}

/// What agents that wait take.
fn waiting(site: &Site) -> Result<Vec<String>> {
    step(format!("{REPLICAS} agents wait for {} s", WATCHED.as_secs()));
    site.cluster.apply(&manifest("held", REPLICAS, &[("suspend", "true")]).to_string())?;
    let agents = site.cluster.wait_for("the agents", LIMIT, || {
        let agents = processes("/migration-gate/agent");
        Ok(if agents.len() == REPLICAS { Seen::Done(agents) } else { Seen::NotYet(format!("{} run", agents.len())) })
    })?;
    let ticks = || agents.iter().map(|pid| ticks(pid)).sum::<u64>();
    let before = ticks();
    std::thread::sleep(WATCHED); // The measurement is how little happens in this time.
    let spent = ticks() - before;
    let resident: Vec<u64> = agents.iter().map(|pid| kilobytes(pid, "Rss:")).collect();
    let private: Vec<u64> = agents.iter().map(|pid| kilobytes(pid, "Private_Dirty:")).collect();
    site.cluster.kubectl(&["delete", "deployment", "held", "-n", NAMESPACE])?;
    let most = |values: &[u64]| values.iter().copied().max().unwrap_or_default();
    Ok(vec![
        format!("| waiting agent, resident memory | {} kB | |", most(&resident)),
        format!("| of it private to the agent | {} kB | |", most(&private)),
        format!("| {REPLICAS} waiting agents, processor time in {} s | {} ms | |", WATCHED.as_secs(), spent * 10),
    ])
}

fn processes(program: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let runs = |pid: &String| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.split(|byte| *byte == 0).next() == Some(program.as_bytes()))
    };
    names.filter(runs).collect()
}

/// User and system time in hundredths of a second (proc(5), fields 14 and 15).
fn ticks(pid: &str) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    fields.iter().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

fn kilobytes(pid: &str, field: &str) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

/// A watch of one application's pods that notes when each was seen first, and when it was first seen Ready.
struct Watch {
    child: Child,
    lines: Receiver<(Instant, String)>,
    seen: std::cell::RefCell<BTreeMap<String, (Instant, Option<Instant>)>>,
}

impl Watch {
    fn of(site: &Site, app: &str) -> Result<Watch> {
        let columns = "-ojsonpath={.metadata.name} {.status.conditions[?(@.type==\"Ready\")].status}{\"\\n\"}";
        let mut command = site.cluster.kubectl_command();
        command
            .args(["get", "pods", "-n", NAMESPACE, "-l", &format!("app={app}"), "-w", columns])
            .stdout(Stdio::piped());
        let failed = |error| Error::System { what: "kubectl get --watch".to_owned(), error };
        let mut child = command.spawn().map_err(failed)?;
        let (sender, lines) = channel();
        let output = child.stdout.take().map(BufReader::new);
        std::thread::spawn(move || {
            for line in output.into_iter().flat_map(BufReader::lines).map_while(std::result::Result::ok) {
                if sender.send((Instant::now(), line)).is_err() {
                    break;
                }
            }
        });
        let watch = Watch { child, lines, seen: std::cell::RefCell::default() };
        watch.until(1)?;
        // The first pod was there before the watch was.
        watch.seen.borrow_mut().values_mut().for_each(|pod| pod.0 = Instant::now());
        Ok(watch)
    }

    /// Waits until so many pods were seen Ready.
    fn until(&self, count: usize) -> Result<()> {
        let end = Instant::now() + LIMIT;
        while self.seen.borrow().values().filter(|(_, ready)| ready.is_some()).count() < count {
            let left = end.saturating_duration_since(Instant::now());
            let received = self.lines.recv_timeout(left);
            let (at, line) =
                received.map_err(|_| Error::Broken(format!("{count} pods are not Ready within {LIMIT:?}")))?;
            let (name, status) = line.split_once(' ').unwrap_or((&line, ""));
            let mut seen = self.seen.borrow_mut();
            let pod = seen.entry(name.to_owned()).or_insert((at, None));
            if status == "True" && pod.1.is_none() {
                pod.1 = Some(at);
            }
        }
        Ok(())
    }

    /// Seconds from creation to Ready, of each pod that was made under this watch.
    fn end(mut self) -> Vec<f64> {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let seen = self.seen.borrow();
        seen.values()
            .filter_map(|(made, ready)| Some(ready.as_ref()?.checked_duration_since(*made)?.as_secs_f64()))
            .collect()
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn manifest(name: &str, replicas: usize, annotations: &[(&str, &str)]) -> Value {
    let mut all = json!({ "migration-gate.dev/command": "/bin/busybox true" });
    for (key, value) in annotations {
        all[format!("migration-gate.dev/{key}")] = json!(value);
    }
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": name, "namespace": NAMESPACE, "labels": { "migration-gate.dev/gated": "true" }, "annotations": all,
        },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "strategy": { "rollingUpdate": { "maxUnavailable": 0, "maxSurge": REPLICAS } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": {
                    "terminationGracePeriodSeconds": 0,
                    "containers": [{ "name": "app", "image": IMAGE, "command": ["/bin/busybox", "sleep", "3600"] }],
                },
            },
        },
    })
}
