//! Somebody's own chart with a gated Deployment, and a Helm that is less patient than the migration.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use demo::{Error, Ledger, Release, Result, Said, Shop, User, promise};
use serde_json::Value;
use testcluster::progress::Seen;

use crate::hold::Hold;
use crate::site;

/// Shorter than a migration that a [`Hold`] keeps from ending; longer than its start on a busy machine.
const TOO_SHORT: &str = "25s";
const ENOUGH: &str = "3m";

struct Helm<'a> {
    user: User,
    shop: &'a Shop<'a>,
}

impl Helm<'_> {
    fn upgrade(&self, release: Release, timeout: &str, more: &[&str]) -> Result<Child> {
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("chart");
        let mut helm = self.user.command("helm");
        helm.args(["upgrade", "--install", "shop"]).arg(chart).args(["--namespace", &self.shop.namespace]);
        helm.args(["--set", &format!("release={}", release as u8), "--timeout", timeout, "--wait"]).args(more);
        helm.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(failed)
    }

    /// The newest revision: what became of it, and why.
    fn newest(&self) -> Result<(String, String)> {
        let history = ["helm", "history", "shop", "--namespace", &self.shop.namespace, "-o", "json"];
        let history: Vec<Value> = serde_json::from_str(&self.user.run(&history)?.well()?.out)
            .map_err(|error| Error::Unreadable(format!("helm history: {error}")))?;
        let newest = history.last().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok((text(&newest["status"]), text(&newest["description"])))
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::System { what: "helm".to_owned(), error }
}

fn end(helm: Child) -> Result<Said> {
    helm.wait_with_output().map(Said::from).map_err(failed)
}

fn too_late(helm: Child) -> Result<()> {
    let said = end(helm)?;
    promise(said.code != 0 && said.err.contains("deadline exceeded"), || format!("it was not too late: {said:#?}"))
}

/// The newest migration's attempts, by their outcomes.
fn outcomes(status: &Value) -> Vec<&str> {
    let newest = status["migrations"].as_array().and_then(|migrations| migrations.last());
    let attempts = newest.and_then(|migration| migration["attempts"].as_array()).into_iter().flatten();
    attempts.filter_map(|attempt| attempt["outcome"].as_str()).collect()
}

#[test]
fn a_chart_whose_time_out_is_too_short_loses_nothing_and_runs_nothing_twice() -> Result<()> {
    let site = site();
    let shop = Shop::open_in(site, "helm")?;
    let helm = Helm { user: User::of(&site.cluster, &site.artefacts)?, shop: &shop };
    let atomic = ["--rollback-on-failure"];

    end(helm.upgrade(Release::One, ENOUGH, &atomic)?)?.well()?;
    shop.wait_until_ready(Release::One, 2)?;
    promise(shop.ledger()?.runs == 1, || "the first migration did not run once".to_owned())?;

    // Rolled back in the middle: the runner is asked to stop, and the old pods never stopped serving.
    let visitor = shop.visitor()?;
    let hold = Hold::of(&shop)?;
    let impatient = helm.upgrade(Release::Two, TOO_SHORT, &atomic)?;
    shop.wait_for_run(2)?;
    too_late(impatient)?;
    let (status, why) = helm.newest()?;
    promise(status == "deployed" && why.starts_with("Rollback"), || format!("the newest is {status}: {why}"))?;
    shop.wait_until_ready(Release::One, 2)?;
    let record = shop.wait_for_record("that it was interrupted", |status| outcomes(status) == ["Interrupted"])?;
    promise(record["status"]["active"].is_null(), || format!("{record}"))?;

    // Not rolled back: the release counts as failed, and the migration goes on.
    let impatient = helm.upgrade(Release::Two, TOO_SHORT, &[])?;
    shop.wait_for_run(3)?;
    too_late(impatient)?;
    let (status, why) = helm.newest()?;
    promise(status == "failed", || format!("the newest is {status}: {why}"))?;
    let active = shop.record()?["status"]["active"].clone();
    promise(active["signalledAt"].is_string(), || "the migration does not run any more".to_owned())?;
    promise(shop.ready(Release::One)? == 2, || "the old pods don't serve".to_owned())?;
    hold.release()?;

    // The same again continues where that one is.
    end(helm.upgrade(Release::Two, ENOUGH, &atomic)?)?.well()?;
    shop.wait_until_ready(Release::Two, 2)?;
    let record = shop.wait_for_phase("Succeeded")?;
    let outcomes = outcomes(&record["status"]);
    promise(outcomes == ["Interrupted", "Succeeded"], || format!("the attempts are {outcomes:?}"))?;
    let ledger = shop.ledger()?;
    let wanted = Ledger { runs: 3, failed: 0, overlapped: 0, unended: 1 };
    promise(ledger == wanted, || format!("the database says {ledger:?}, not {wanted:?}"))?;
    let applied = "SELECT count(*) FROM goose_db_version WHERE version_id = 2 AND is_applied";
    let applied = site.database.psql_in(&shop.namespace, applied)?;
    promise(applied == "1", || format!("the schema's second version was applied {applied} times"))?;
    let visit = visitor.leave()?;
    promise(visit["failed"] == 0 && visit["asked"] != 0, || format!("customers were refused: {visit}"))
}

#[test]
fn a_first_installation_that_is_too_late_leaves_nothing_behind_that_the_next_one_meets() -> Result<()> {
    let site = site();
    let shop = Shop::open_in(site, "helm-first")?;
    let helm = Helm { user: User::of(&site.cluster, &site.artefacts)?, shop: &shop };
    let atomic = ["--rollback-on-failure"];
    let hold = Hold::of(&shop)?;
    let impatient = helm.upgrade(Release::Two, TOO_SHORT, &atomic)?;
    shop.wait_for_run(1)?;
    too_late(impatient)?;
    let gone = "the Deployment, its pods and its record to be gone";
    site.cluster.wait_for(gone, Duration::from_secs(60), || {
        let left =
            site.cluster.kubectl(&["get", "deployments,pods,migrationgates", "-n", "helm-first", "-o", "name"])?;
        Ok(if left.is_empty() { Seen::Done(()) } else { Seen::NotYet(left) })
    })?;
    hold.release()?;
    end(helm.upgrade(Release::Two, ENOUGH, &atomic)?)?.well()?;
    shop.wait_until_ready(Release::Two, 2)?;
    let (ledger, wanted) = (shop.ledger()?, Ledger { runs: 2, failed: 0, overlapped: 0, unended: 1 });
    promise(ledger == wanted, || format!("the database says {ledger:?}, not {wanted:?}"))
}
