//! The agent from an image volume instead of an init container that copies it.

use demo::{ByImageVolume, Release, Result, Shop, User, promise, steps};
use serde_json::Value;

use crate::site;

#[test]
fn an_agent_from_an_image_volume_migrates_as_one_that_was_copied_does() -> Result<()> {
    let site = site();
    let shop = Shop::open_in(site, "volume")?;
    let mounted = ByImageVolume::on(site, shop.manifest(Release::One, 3))?;

    steps::first_rollout(&shop)?;
    let volume = template(&shop)?;
    promise(names(&volume["initContainers"]) == ["migration-gate-migrate"], || format!("it is copied: {volume:#}"))?;
    let images = volume["volumes"].as_array().into_iter().flatten().filter(|volume| !volume["image"].is_null());
    promise(images.count() == 1, || format!("not one image volume: {volume:#}"))?;

    steps::scale_up(&shop)?;
    steps::slow_migration(&shop)?;
    steps::failing_migration(&shop)?;
    let user = User::of(&site.cluster, &site.artefacts)?;
    let logs = user.run(&["kubectl", "migration-gate", "logs", "shop", "-n", &shop.namespace])?.well()?;
    promise(logs.out.contains("\"order_lines\" does not exist"), || format!("not the attempt's log: {logs:#?}"))?;
    steps::roll_back(&shop)?;

    // An installation that changes its mind rolls out nothing, and migrates nothing again.
    let (before, runs) = (template(&shop)?, shop.ledger()?.runs);
    mounted.off()?;
    site.cluster.kubectl(&["annotate", "deployment/shop", "-n", &shop.namespace, "touched=yes"])?;
    let after = template(&shop)?;
    promise(after == before, || format!("{before:#} became {after:#}"))?;
    shop.apply(Release::One, 6)?;
    shop.wait_until_ready(Release::One, 6)?;
    let copied = template(&shop)?;
    let names = names(&copied["initContainers"]);
    promise(names == ["migration-gate-install", "migration-gate-migrate"], || format!("not copied: {copied:#}"))?;
    let now = shop.ledger()?.runs;
    promise(now == runs, || format!("release 1 ran again: {now} runs, {runs} before"))
}

/// The Deployment's pod.
fn template(shop: &Shop<'_>) -> Result<Value> {
    let deployment = shop.site.cluster.get(&["deployment/shop", "-n", &shop.namespace])?;
    Ok(deployment["spec"]["template"]["spec"].clone())
}

fn names(containers: &Value) -> Vec<&str> {
    containers.as_array().into_iter().flatten().filter_map(|container| container["name"].as_str()).collect()
}
