//! Another version of migration-gate takes over while a migration runs, and the first one comes back.
//!
//! There is one version to test with, so the other one is the same program in an image of another name. That changes
//! what an upgrade changes: every process is replaced, and the webhook would inject something else, the other image.

use std::fs::File;
use std::process::{Child, Stdio};
use std::time::Duration;

use demo::{Error, Ledger, Release, Result, Shop, Site, promise};
use jiff::Timestamp;
use serde_json::{Value, json};
use testcluster::progress::{Seen, step};

use crate::hold::Hold;
use crate::site;

const SYSTEM: &str = "migration-gate-system";
const OTHER: &str = "localhost/migration-gate:other";
const LIMIT: Duration = Duration::from_secs(120);

/// What `kubectl apply -k .` applies, and what its processes wrote.
struct Installation<'a> {
    site: &'a Site,
    objects: String,
    image: String,
    /// Followers of the logs of processes that were replaced.
    logs: Vec<(String, Child)>,
}

impl<'a> Installation<'a> {
    fn of(site: &'a Site) -> Result<Installation<'a>> {
        let objects = site.cluster.kubectl(&["kustomize", &site.artefacts.root.to_string_lossy()])?;
        let webhook = site.cluster.get(&["deployment/migration-gate-webhook", "-n", SYSTEM])?;
        let image = text(&webhook["spec"]["template"]["spec"]["containers"][0]["image"]);
        site.load_as(OTHER)?;
        Ok(Installation { site, objects, image, logs: Vec::new() })
    }

    fn pods(&self) -> Result<Vec<Value>> {
        let part = "app.kubernetes.io/part-of=migration-gate";
        let pods = self.site.cluster.get(&["pods", "-n", SYSTEM, "-l", part])?;
        Ok(pods["items"].as_array().cloned().unwrap_or_default())
    }

    /// Replaces every process by one of this image, and returns the leader then.
    fn replace_by(&mut self, image: &str) -> Result<String> {
        step(format!("replacing every process of migration-gate by {image}"));
        for pod in self.pods()? {
            let name = text(&pod["metadata"]["name"]);
            let file = self.site.cluster.logs_dir().join(format!("{name}.log"));
            let log = File::create(&file).map_err(|error| system(&name, error))?;
            let mut follow = self.site.cluster.kubectl_command();
            follow.args(["logs", "--follow", &name, "-n", SYSTEM]).stdin(Stdio::null()).stdout(log);
            let follower = follow.spawn().map_err(|error| system(&name, error))?;
            self.logs.push((file.to_string_lossy().into_owned(), follower));
        }
        self.site.cluster.apply(&self.objects.replace(&self.image, image))?;
        let leader = self.site.cluster.wait_for("the other processes alone, and one that leads", LIMIT, || {
            let pods = self.pods().map_err(|error| testcluster::Error::Invalid(error.to_string()))?;
            let is_there = |pod: &Value| {
                let ready = |c: &Value| c["type"] == "Ready" && c["status"] == "True";
                pod["spec"]["containers"][0]["image"] == image
                    && pod["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(ready))
            };
            let lease = self.site.cluster.get(&["lease/migration-gate-controller", "-n", SYSTEM])?;
            let holder = &lease["spec"]["holderIdentity"];
            let leads = pods.iter().any(|pod| pod["metadata"]["name"] == *holder);
            let done = pods.len() == 4 && pods.iter().all(is_there) && leads;
            Ok(if done { Seen::Done(text(holder)) } else { Seen::NotYet(format!("{} pods", pods.len())) })
        })?;
        Ok(leader)
    }

    /// Every line that a process wrote, those of the replaced ones too.
    fn lines(&mut self) -> Result<Vec<Value>> {
        let mut written = String::new();
        for (file, mut follower) in self.logs.drain(..) {
            follower.wait().map_err(|error| system(&file, error))?;
            written += &std::fs::read_to_string(&file).map_err(|error| system(&file, error))?;
        }
        for pod in self.pods()? {
            written += &self.site.cluster.kubectl(&["logs", &text(&pod["metadata"]["name"]), "-n", SYSTEM])?;
        }
        let read = |line: &str| {
            serde_json::from_str(line).map_err(|error| Error::Unreadable(format!("the log line {line:?}: {error}")))
        };
        written.lines().map(read).collect()
    }
}

fn system(what: &str, error: std::io::Error) -> Error {
    Error::System { what: what.to_owned(), error }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// All that a rollout would change.
fn rolled_out(shop: &Shop<'_>) -> Result<Value> {
    let get = |what: &str| shop.site.cluster.get(&[what, "-n", &shop.namespace]);
    let deployment = get("deployment/shop")?;
    let uids = |list: Value| -> Vec<Value> {
        list["items"].as_array().into_iter().flatten().map(|item| item["metadata"]["uid"].clone()).collect()
    };
    Ok(json!({
        "generation": deployment["metadata"]["generation"],
        "template": deployment["spec"]["template"],
        "replicaSets": uids(get("replicasets")?),
        "pods": uids(get("pods")?),
    }))
}

/// Fails where something was rolled out since.
fn unmoved(what: &str, shop: &Shop<'_>, before: &Value) -> Result<()> {
    let now = rolled_out(shop)?;
    promise(now == *before, || format!("{what} rolled out a workload: {before:#} became {now:#}"))
}

/// The image of the container that brings the agent.
fn agent_image(rolled_out: &Value) -> String {
    text(&rolled_out["template"]["spec"]["initContainers"][0]["image"])
}

/// Updates a Deployment so that its pods stay as they are: the webhook sees it.
fn touch(shop: &Shop<'_>, by: &str) -> Result<()> {
    let touched = format!("touched-by={by}");
    shop.site.cluster.kubectl(&["label", "deployment/shop", "-n", &shop.namespace, "--overwrite", &touched])?;
    Ok(())
}

/// A field of a record that only a later version knows.
fn write_unknown_field(shop: &Shop<'_>) -> Result<()> {
    let cluster = &shop.site.cluster;
    let status = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties";
    let field = json!([{ "op": "add", "path": format!("{status}/later"), "value": { "type": "string" } }]).to_string();
    let definition = "crd/migrationgates.migration-gate.dev";
    cluster.kubectl(&["patch", definition, "--type", "json", "-p", &field])?;
    cluster.wait_for("the API server to take the field", LIMIT, || {
        let patch = json!({ "status": { "later": "known to a later version" } }).to_string();
        let record = ["migrationgate/shop.deployment", "-n", &shop.namespace, "--subresource=status"];
        cluster.kubectl(&[&["patch"][..], &record, &["--type", "merge", "-p", &patch]].concat())?;
        let found = cluster.get(&["migrationgate/shop.deployment", "-n", &shop.namespace])?;
        let taken = found["status"]["later"].is_string();
        Ok(if taken { Seen::Done(()) } else { Seen::NotYet("it was pruned".to_owned()) })
    })?;
    Ok(())
}

#[test]
fn an_upgrade_and_a_downgrade_roll_out_no_workload_and_a_running_migration_goes_on() -> Result<()> {
    let (site, began) = (site(), Timestamp::now());
    let mut installation = Installation::of(site)?;
    let first_image = installation.image.clone();
    let (shop, late) = (Shop::open_in(site, "upgrade")?, Shop::open_in(site, "late")?);
    shop.apply(Release::One, 2)?;
    shop.wait_until_ready(Release::One, 2)?;
    let hold = Hold::of(&shop)?;
    shop.apply(Release::Two, 2)?;
    shop.wait_for_run(2)?;
    let is_signalled = |status: &Value| status["active"]["signalledAt"].is_string();
    let active = shop.wait_for_record("that it runs", is_signalled)?["status"]["active"].clone();
    shop.site.cluster.wait_for("every pod of the rollout", LIMIT, || {
        let pods = shop.pods(Release::Two).map_err(|error| testcluster::Error::Invalid(error.to_string()))?.len();
        Ok(if pods == 2 { Seen::Done(()) } else { Seen::NotYet(format!("there are {pods}")) })
    })?;
    let before = rolled_out(&shop)?;
    promise(agent_image(&before) == first_image, || format!("{before}"))?;

    let second = installation.replace_by(OTHER)?;
    touch(&shop, "the-other-version")?;
    late.apply(Release::One, 0)?;
    let of_late = rolled_out(&late)?;
    promise(agent_image(&of_late) == OTHER, || format!("the other version injects nothing of its own: {of_late}"))?;
    unmoved("the upgrade", &shop, &before)?;
    write_unknown_field(&shop)?;

    let third = installation.replace_by(&first_image)?;
    touch(&shop, "the-first-version")?;
    touch(&late, "the-first-version")?;
    unmoved("the downgrade", &shop, &before)?;
    unmoved("the downgrade", &late, &of_late)?;
    let now = shop.record()?["status"]["active"].clone();
    promise(now == active, || format!("another attempt is active: {active} became {now}"))?;
    promise(second != third, || format!("{second} leads all the time"))?;

    hold.release()?;
    shop.wait_until_ready(Release::Two, 2)?;
    let record = shop.wait_for_phase("Succeeded")?;
    let newest = record["status"]["migrations"].as_array().and_then(|all| all.last()).cloned().unwrap_or_default();
    let verdicts: Vec<String> =
        newest["attempts"].as_array().into_iter().flatten().map(|attempt| text(&attempt["outcome"])).collect();
    promise(verdicts == ["Succeeded"], || format!("the attempts are {verdicts:?}"))?;
    promise(record["status"]["later"].is_null(), || {
        "what docs/operations.md says of unknown fields is wrong".to_owned()
    })?;
    let (ledger, wanted) = (shop.ledger()?, Ledger { runs: 2, ..Ledger::default() });
    promise(ledger == wanted, || format!("the database says {ledger:?}, not {wanted:?}"))?;
    late.apply(Release::One, 1)?;
    late.wait_until_ready(Release::One, 1)?;

    let lines = installation.lines()?;
    let of = |level: &str| lines.iter().filter(|line| line["level"] == level).collect::<Vec<_>>();
    promise(of("INFO").len() >= 12, || format!("twelve processes wrote little: {lines:#?}"))?;
    // Other tests do worse to the same cluster.
    let is_earlier = |line: &Value| text(&line["timestamp"]).parse::<Timestamp>().is_ok_and(|at| at < began);
    let errors: Vec<_> = of("ERROR").into_iter().filter(|line| !is_earlier(line)).collect();
    promise(errors.is_empty(), || format!("errors were logged: {errors:#?}"))
}
