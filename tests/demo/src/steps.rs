//! The five rollouts. Each tells what it does on the standard output and fails when something is not as promised.

use serde_json::Value;
use testcluster::progress::Seen;

use crate::measure::{condition, time};
use crate::shop::{BACKOFF_LIMIT, NAME};
use crate::wait::{LIMIT, text, unwrap};
use crate::{Error, Ledger, Observed, Release, Result, Row, Shop, promise};

/// Says something to who watches.
fn tell(text: impl AsRef<str>) {
    println!("  {}", text.as_ref());
}

/// The first rollout: three pods wait, one is elected and migrates, all become Ready.
///
/// # Errors
/// When anything is not as promised.
pub fn first_rollout(shop: &Shop<'_>) -> Result<Row> {
    println!("\n1. The first rollout: three replicas and an empty database");
    let before = shop.ledger()?;
    shop.apply(Release::One, 3)?;
    shop.wait_until_ready(Release::One, 3)?;
    let record = shop.record()?;
    tell(format!(
        "pod {} was elected; its migration took {}; 3 of 3 pods are Ready",
        text(&record["status"]["runner"]),
        text(&record["status"]["duration"])
    ));
    let runs = runs(before, shop.ledger()?, 1)?;
    Ok(row("first rollout, 3 replicas", runs, shop.observe(Release::One)?, None))
}

/// More replicas of what succeeded: they pass at once.
///
/// # Errors
/// When anything is not as promised.
pub fn scale_up(shop: &Shop<'_>) -> Result<Row> {
    println!("\n2. Scale to six: nothing is left to migrate");
    let before = shop.ledger()?;
    let known: Vec<String> = shop.pods(Release::One)?.iter().map(|pod| text(&pod["metadata"]["name"])).collect();
    shop.site.cluster.kubectl(&["scale", "deployment", NAME, "-n", &shop.namespace, "--replicas=6"])?;
    shop.wait_until_ready(Release::One, 6)?;
    let pods = shop.pods(Release::One)?;
    let new = pods.iter().filter(|pod| !known.contains(&text(&pod["metadata"]["name"])));
    let opened = slowest(new)?;
    tell(format!("3 new pods passed; the slowest gate opened {opened:.0} s after its pod was made"));
    let runs = runs(before, shop.ledger()?, 0)?;
    Ok(row("scale to 6", runs, Observed { elected: None, opened: Some(opened) }, None))
}

/// A slow migration under traffic: the old pods serve until the new ones may.
///
/// # Errors
/// When anything is not as promised.
pub fn slow_migration(shop: &Shop<'_>) -> Result<Row> {
    println!("\n3. Release 2, whose migration takes ten seconds, while a customer asks fifty times a second");
    let before = shop.ledger()?;
    let visitor = shop.visitor()?;
    shop.apply(Release::Two, 6)?;
    let running = shop.wait_for_phase("Running")?;
    let (old, new) = (shop.ready(Release::One)?, shop.ready(Release::Two)?);
    tell(format!("{}; {old} old pods serve, {new} new ones", text(&running["status"]["message"])));
    promise(old == 6 && new == 0, || {
        format!("{old} old and {new} new pods are Ready during the migration, not 6 and 0")
    })?;
    shop.wait_until_ready(Release::Two, 6)?;
    let visit = visitor.leave()?;
    let failed = unfailing(&visit)?;
    tell(format!("6 new pods are Ready; answers by release: {}", visit["releases"]));
    let runs = runs(before, shop.ledger()?, 1)?;
    Ok(row("release 2, slow migration", runs, shop.observe(Release::Two)?, Some(failed)))
}

/// A migration that fails: the new pods are held, the old ones serve, and the log's last line is where people look.
///
/// # Errors
/// When anything is not as promised.
pub fn failing_migration(shop: &Shop<'_>) -> Result<Row> {
    println!("\n4. Release 3, whose migration has a mistake");
    let before = shop.ledger()?;
    let visitor = shop.visitor()?;
    shop.apply(Release::Three, 6)?;
    let record = shop.wait_for_phase("Failed")?;
    let (old, new) = (shop.ready(Release::Two)?, shop.ready(Release::Three)?);
    promise(old == 6 && new == 0, || format!("{old} old and {new} new pods are Ready after the failure, not 6 and 0"))?;
    tell("kubectl get migrationgates:");
    for line in shop.site.cluster.kubectl(&["get", "migrationgates", "-n", &shop.namespace, "-o", "wide"])?.lines() {
        tell(format!("  {line}"));
    }
    let mistake = "order_lines";
    let message = text(&record["status"]["message"]);
    promise(message.contains(mistake), || format!("the record does not show the log's last line: {message:?}"))?;
    let event = failure_event(shop)?;
    tell(format!("kubectl events: {event}"));
    promise(event.contains(mistake), || format!("the event does not show the log's last line: {event:?}"))?;
    let failed = unfailing(&visitor.leave()?)?;
    let runs = runs(before, shop.ledger()?, u64::from(BACKOFF_LIMIT))?;
    tell(format!("{BACKOFF_LIMIT} attempts failed; 6 pods of release 2 serve on"));
    Ok(row("release 3, failing migration", runs, shop.observe(Release::Three)?, Some(failed)))
}

/// Back to the release that succeeded: it passes from history, and so does a pod of it that is replaced.
///
/// # Errors
/// When anything is not as promised.
pub fn roll_back(shop: &Shop<'_>) -> Result<Row> {
    println!("\n5. kubectl rollout undo: back to release 2, which succeeded before");
    let before = shop.ledger()?;
    let visitor = shop.visitor()?;
    shop.site.cluster.kubectl(&["rollout", "undo", &format!("deployment/{NAME}"), "-n", &shop.namespace])?;
    shop.wait_for_phase("Succeeded")?;
    shop.site.cluster.wait_for("the pods of release 3 to be gone", LIMIT, || {
        let left = shop.pods(Release::Three).map_err(unwrap)?.len();
        Ok(if left == 0 { Seen::Done(()) } else { Seen::NotYet(format!("{left} are left")) })
    })?;
    let known = shop.pods(Release::Two)?;
    let victim = known.first().map(|pod| text(&pod["metadata"]["name"])).unwrap_or_default();
    shop.site.cluster.kubectl(&["delete", "pod", &victim, "-n", &shop.namespace, "--wait=false"])?;
    let known: Vec<String> = known.iter().map(|pod| text(&pod["metadata"]["name"])).collect();
    let replaced = shop.site.cluster.wait_for("the pod that takes its place to be Ready", LIMIT, || {
        let pods = shop.pods(Release::Two).map_err(unwrap)?;
        let new = pods.into_iter().find(|pod| !known.contains(&text(&pod["metadata"]["name"])));
        Ok(match new {
            Some(pod) if condition(&pod, "Ready").is_some() => Seen::Done(pod),
            Some(pod) => Seen::NotYet(pod["status"].to_string()),
            None => Seen::NotYet("there is none".to_owned()),
        })
    })?;
    let opened = slowest([&replaced])?;
    tell(format!(
        "pod {victim} was deleted; the one in its place passed from history, {opened:.0} s after it was made"
    ));
    let failed = unfailing(&visitor.leave()?)?;
    let runs = runs(before, shop.ledger()?, 0)?;
    Ok(row("rollout undo to release 2", runs, Observed { elected: None, opened: Some(opened) }, Some(failed)))
}

/// A second fence: release 2 again, as another migration, under a lock in the database itself.
///
/// # Errors
/// When anything is not as promised.
pub fn second_fence(shop: &Shop<'_>) -> Result<Row> {
    println!("\n6. A lock in the database: release 2 migrates once more, through migration-gate run");
    let before = shop.ledger()?;
    let (object, of_shop) = (format!("deployment/{NAME}"), ["-n", &shop.namespace]);
    let annotations = ["migration-gate.dev/lock-env=DATABASE_URL", "migration-gate.dev/revision=fenced"];
    shop.site.cluster.kubectl(&[&["annotate", &object][..], &annotations, &of_shop].concat())?;
    let limit = format!("--timeout={}s", LIMIT.as_secs());
    shop.site.cluster.kubectl(&[&["rollout", "status", &object, &limit][..], &of_shop].concat())?;
    let record = shop.wait_for_phase("Succeeded")?;
    let history = shop.site.database.psql_in(&shop.namespace, "SELECT run_key, state FROM migration_gate_runs")?;
    let deployment = shop.site.cluster.get(&[&[object.as_str()][..], &of_shop].concat())?;
    let migration = text(&deployment["spec"]["template"]["metadata"]["labels"]["migration-gate.dev/migration"]);
    tell(format!("the database's own history says: {history}"));
    promise(history == format!("{migration}|succeeded"), || format!("{history:?} is not the success of {migration}"))?;
    tell(text(&record["status"]["message"]));
    let runs = runs(before, shop.ledger()?, 1)?;
    Ok(row("under a lock in the database", runs, Observed::default(), None))
}

fn row(step: &'static str, runs: u64, observed: Observed, failed: Option<(u64, u64)>) -> Row {
    Row { step, runs, elected: observed.elected, opened: observed.opened, failed }
}

/// Checks what the database says: so many runs, one at a time, each of which ended.
fn runs(before: Ledger, after: Ledger, wanted: u64) -> Result<u64> {
    let runs = after.runs - before.runs;
    tell(format!("the database says: {runs} run(s), none at the same time as another"));
    promise(runs == wanted, || format!("the migration ran {runs} times, not {wanted}"))?;
    promise(after.overlapped == 0, || format!("{} runs overlapped", after.overlapped))?;
    promise(after.unended == 0, || format!("{} runs did not end", after.unended))?;
    Ok(runs)
}

/// Checks what the visitor says: no request failed. Returns failed and all.
fn unfailing(visit: &Value) -> Result<(u64, u64)> {
    let (failed, asked) = (visit["failed"].as_u64().unwrap_or(u64::MAX), visit["asked"].as_u64().unwrap_or(0));
    tell(format!("{failed} of {asked} requests failed"));
    promise(failed == 0 && asked > 0, || format!("{failed} of {asked} requests failed: {}", visit["failures"]))?;
    Ok((failed, asked))
}

/// The longest time from a pod's creation to its gate's opening, in seconds.
fn slowest<'p>(pods: impl IntoIterator<Item = &'p Value>) -> Result<f64> {
    let mut slowest = 0.0_f64;
    for pod in pods {
        let made = time(&pod["metadata"]["creationTimestamp"])?;
        let opened = condition(pod, "migration-gate.dev/migrated");
        let opened =
            opened.ok_or_else(|| Error::Broken(format!("the gate of {} is closed", pod["metadata"]["name"])))?;
        slowest = slowest.max(opened.duration_since(made).as_secs_f64());
    }
    Ok(slowest)
}

/// The note of the newest event about a failure.
fn failure_event(shop: &Shop<'_>) -> Result<String> {
    Ok(shop.site.cluster.wait_for("an event about the failure", LIMIT, || {
        let selector = format!("reason=MigrationFailed,involvedObject.kind=Deployment,involvedObject.name={NAME}");
        let events = shop.site.cluster.get(&["events", "-n", &shop.namespace, "--field-selector", &selector])?;
        let last = events["items"].as_array().and_then(|events| events.last()).map(|event| text(&event["message"]));
        Ok(last.map_or_else(|| Seen::NotYet("there is none".to_owned()), Seen::Done))
    })?)
}
