//! The log of a migration that needs two attempts, as somebody sees it who follows it.

use std::process::Stdio;

use demo::{Error, Release, Result, Said, Shop, User, promise};

use crate::site;

#[test]
fn who_follows_the_log_sees_the_failed_attempt_and_then_the_one_that_succeeds() -> Result<()> {
    let site = site();
    let (shop, user) = (Shop::open_in(site, "logs")?, User::of(&site.cluster, &site.artefacts)?);
    shop.apply(Release::Three, 2)?;
    shop.wait_for_phase("Running")?;
    let mut follow = user.command("kubectl");
    follow.args(["migration-gate", "logs", "shop", "-n", &shop.namespace, "--follow"]);
    let system = |error| Error::System { what: "kubectl migration-gate logs".to_owned(), error };
    let follower = follow.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(system)?;

    shop.wait_for_record("one failure", |status| status["migrations"][0]["failures"] == 1)?;
    // What it lacks is made, as somebody would mend a grant, before it is tried again.
    site.database.psql_in(&shop.namespace, "CREATE TABLE order_lines ()")?;
    let said = Said::from(follower.wait_with_output().map_err(system)?).well()?;

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
    let once = said.out.matches("00001_orders.sql").count() == 1;
    promise(once, || format!("what the first attempt wrote is shown again: {said:#?}"))?;
    shop.wait_until_ready(Release::Three, 2)
}
