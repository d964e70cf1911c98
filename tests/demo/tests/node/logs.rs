//! The log of a migration that needs two attempts, as somebody sees it who follows it.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::time::Duration;

use demo::{Error, Release, Result, Said, Shop, User, promise};
use testcluster::progress::Seen;

use crate::site;

#[test]
fn who_follows_the_log_sees_the_failed_attempt_and_then_the_one_that_succeeds() -> Result<()> {
    let site = site();
    let (shop, user) = (Shop::open_in(site, "logs")?, User::of(&site.cluster, &site.artefacts)?);
    shop.apply(Release::Three, 2)?;
    shop.wait_for_phase("Running")?;
    let logs = ["migration-gate", "logs", "shop", "-n", &shop.namespace];
    let mut follow = user.command("kubectl");
    follow.args(logs).arg("--follow");
    let system = |error| Error::System { what: "kubectl migration-gate logs".to_owned(), error };
    let mut follower = follow.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(system)?;

    // The way to the log breaks while the command runs.
    let mut reader = BufReader::new(follower.stdout.take().ok_or_else(|| Error::Broken("no pipe".to_owned()))?);
    let mut out = String::new();
    while !out.contains("OK   00001_orders.sql") {
        let read = reader.read_line(&mut out).map_err(system)?;
        promise(read > 0, || format!("it ended after {out:?}"))?;
    }
    site.cluster.component("kube-apiserver")?.restart()?;

    shop.wait_for_record("one failure", |status| status["migrations"][0]["failures"] == 1)?;
    // What it lacks is made, as somebody would mend a grant, before it is tried again.
    site.database.psql_in(&shop.namespace, "CREATE TABLE order_lines ()")?;
    let once = read_once_started_again(&shop, &user, &logs)?;

    reader.read_to_string(&mut out).map_err(system)?;
    let said = Said { out, ..Said::from(follower.wait_with_output().map_err(system)?) }.well()?;
    let at = |text: &str, part: &str| text.find(part).ok_or_else(|| Error::Broken(format!("no {part:?} in {said:#?}")));
    let log = [
        at(&said.out, "OK   00001_orders.sql")?,
        at(&said.out, "relation \"order_lines\" does not exist")?,
        at(&said.out, "OK   00003_currency.sql")?,
    ];
    let told = [
        at(&said.err, "attempt 1 of migration")?,
        at(&said.err, "attempt 1 failed with exit code 1")?,
        at(&said.err, "attempt 2 of migration")?,
        at(&said.err, "attempt 2 succeeded")?,
    ];
    promise(log.is_sorted() && told.is_sorted(), || format!("not in order: {said:#?}"))?;
    for line in ["00001_orders.sql", "00002_total.sql", "\"order_lines\" does not exist"] {
        promise(said.out.matches(line).count() == 1, || format!("{line} is not there once: {said:#?}"))?;
    }
    // The agent's word before each command: nothing of an attempt's beginning is missing.
    let starts = said.out.matches("migration-gate: running /bin/shop").count();
    promise(starts == 2, || format!("{starts} of 2 beginnings: {said:#?}"))?;

    let (wrote, attempt) = match once.err.contains("attempt 1 in pod") {
        true => ("relation \"order_lines\" does not exist", 1),
        false => ("OK   00003_currency.sql", 2),
    };
    promise(once.out.contains(wrote), || format!("not what attempt {attempt} wrote: {once:#?}"))?;
    shop.wait_until_ready(Release::Three, 2)
}

/// What `logs` shows when the agent waits again: what the attempt wrote is in the container before that one.
fn read_once_started_again(shop: &Shop, user: &User, logs: &[&str]) -> Result<Said> {
    shop.site.cluster.wait_for("the agent to be started again", Duration::from_secs(60), || {
        let pods = shop.site.cluster.get(&["pods", "-n", &shop.namespace])?;
        let statuses = pods["items"].as_array().into_iter().flatten();
        let agents = statuses.flat_map(|pod| pod["status"]["initContainerStatuses"].as_array().into_iter().flatten());
        let again = agents.filter(|agent| agent["restartCount"].as_u64() > Some(0)).count();
        Ok(if again > 0 { Seen::Done(()) } else { Seen::NotYet("none has been".to_owned()) })
    })?;
    user.run(&[&["kubectl"], logs].concat())?.well()
}
