//! What the policies cost.

use std::time::Duration;

use serde_json::json;

use migration_gate::contract::annotation;

use crate::people::{NODE, PODS, bare, boot, gated, passed, with};
use crate::support::client::STRATEGIC;
use crate::support::eventually;

/// What the policies add to a kubelet's update of a pod's status, in one run, in turns: the time that a client waits, and
/// the API server's processor time, which a busy machine doesn't blur.
///
/// Measures; it can't fail. `make bench-policies`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn what_the_policies_cost() {
    const BINDINGS: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings";
    let (cluster, people) = boot("t-policy-cost").await;
    people.administrator.must_create(PODS, &with(&gated("busy"), "/spec/nodeName", json!(NODE))).await;
    let status = format!("{PODS}/busy/status");
    let probe = with(&bare("probe"), "/metadata/annotations", json!({ annotation::SIGNAL: "x" }));
    let server = cluster.component("kube-apiserver").expect("it runs").pid().expect("it runs");
    let (mut medians, mut spent) = ([Vec::new(), Vec::new()], [Duration::ZERO; 2]);
    for round in 0..6 {
        let on = round % 2 == 0;
        match on {
            true => {
                cluster.kubectl(&["apply", "-f", "webhook-config/policies.yaml"]).expect("the policies");
            }
            false => {
                for name in ["pods", "bindings", "controller", "workloads", "templates", "groups", "records"] {
                    let path = format!("{BINDINGS}/{name}.migration-gate.dev");
                    people.administrator.delete(&path, &json!({})).await.expect("it exists");
                }
            }
        }
        eventually("the policies to be on or off", async || {
            let taken = people.app.create(&format!("{PODS}?dryRun=All"), &probe).await.is_ok();
            (taken != on).then_some(())
        })
        .await;
        let (mut times, before) = (Vec::new(), processor_time(server));
        for number in 0..500 {
            let message = json!({"status": {"message": number.to_string()}});
            let start = std::time::Instant::now();
            passed(people.kubelet.patch(&status, STRATEGIC, &message).await, &people.kubelet, "report");
            times.push(start.elapsed());
        }
        spent[usize::from(on)] += (processor_time(server) - before) / 1500;
        times.sort_unstable();
        medians[usize::from(on)].push(times[times.len() / 2]);
    }
    let [off, on] = medians.map(|mut medians| {
        medians.sort_unstable();
        medians[medians.len() / 2]
    });
    eprintln!("a kubelet's status update: {off:?} without the policies, {on:?} with them (medians of 3 times 500)");
    eprintln!("the API server's processor time for one: {:?} without, {:?} with", spent[0], spent[1]);
}

/// The processor time that a process has had. Source: proc(5), fields 14 and 15, in hundredths of a second.
fn processor_time(process: i32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a name").split_whitespace().collect();
    let ticks: u64 = fields[11..=12].iter().map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 10)
}
