//! A namespace that is being deleted: whether it is we who hold it, and if not, who does.
//!
//! From outside both look alike: the namespace stays, and in it are pods that were gated.

use std::cmp::Reverse;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::core::ResourceExt;

use super::reason::{CONTROLLER, Commands, Reason, Rule};
use super::terminal::harmless;
use crate::contract::{POD_FINALIZER, RECORD_FINALIZER};
use crate::controller::standing::for_people;

/// The grace period of a pod that names none. Source: Kubernetes API reference, PodSpec.
const USUAL_GRACE: i64 = 30;

/// Who holds a namespace; nobody, if it isn't being deleted.
///
/// `pods` are all of its pods, and `records` the names of the records that our finalizer keeps.
pub(super) fn reason(
    namespace: &Namespace,
    pods: &[Pod],
    records: &[String],
    now: Timestamp,
    commands: &Commands,
) -> Option<Reason> {
    let since = now.duration_since(namespace.metadata.deletion_timestamp.as_ref()?.0);
    let (ours, mut theirs): (Vec<&Pod>, Vec<&Pod>) =
        pods.iter().partition(|pod| pod.finalizers().iter().any(|finalizer| finalizer == POD_FINALIZER));
    let mut holders: Vec<String> = ours
        .iter()
        .map(|pod| format!("pod {} (finalizer {POD_FINALIZER}, until the end of its attempt is known)", pod.name_any()))
        .collect();
    holders.extend(records.iter().map(|name| format!("record {name} (finalizer {RECORD_FINALIZER})")));
    let (us, mut released_by) = match holders.is_empty() {
        true => ("nothing of ours holds it".to_owned(), Vec::new()),
        false => (
            format!("of ours {} {} it", holders.join(", "), if holders.len() == 1 { "holds" } else { "hold" }),
            vec![
                format!("the end of each attempt: kubectl get pods{}", commands.place),
                format!("what takes our finalizers off, {CONTROLLER}"),
            ],
        ),
    };
    // The one that goes last is named.
    theirs.sort_by_key(|pod| (pod.finalizers().is_empty(), Reverse(pod.metadata.deletion_timestamp.clone())));
    let others = theirs.iter().map(|pod| other(pod, now)).collect::<Vec<_>>();
    let mut because =
        format!("namespace {} has been in deletion for {}; {us}", namespace.name_any(), for_people(since));
    if let Some((first, rest)) = others.split_first() {
        because.push_str(&format!("; {first}"));
        if !rest.is_empty() {
            because.push_str(&format!("; pods beside it: {}", rest.len()));
        }
        released_by.push(format!("the end of its pods: kubectl get pods{}", commands.place));
    }
    if holders.is_empty() && others.is_empty() {
        let left = left(namespace);
        released_by.push(format!("what is left in it: kubectl describe namespace {}", namespace.name_any()));
        because.push_str(&left.map_or_else(|| ", and it has no pods".to_owned(), |left| format!("; {left}")));
    }
    Some(Reason::new(Rule::NamespaceLeaves, because, released_by))
}

/// Why a pod that we don't hold is still there.
fn other(pod: &Pod, now: Timestamp) -> String {
    let name = pod.name_any();
    let Some(deadline) = pod.metadata.deletion_timestamp.as_ref() else {
        return format!("pod {name} has not been deleted yet");
    };
    if !pod.finalizers().is_empty() {
        return format!("pod {name} has the finalizer {}, which is not ours", pod.finalizers().join(", "));
    }
    let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(USUAL_GRACE);
    let left = deadline.0.duration_since(now);
    let grace = for_people(SignedDuration::from_secs(grace));
    if left.is_positive() {
        format!(
            "pod {name} has a grace period of {grace} (terminationGracePeriodSeconds), of which {} are left",
            for_people(left)
        )
    } else {
        format!("the grace period of pod {name}, {grace}, is over, but its kubelet has not said that it ended")
    }
}

/// What the namespace's controller says is left.
fn left(namespace: &Namespace) -> Option<String> {
    let conditions = namespace.status.as_ref()?.conditions.as_ref()?;
    let says = |type_: &str| {
        let condition = conditions.iter().find(|each| each.type_ == type_ && each.status == "True")?;
        condition.message.as_deref().map(harmless)
    };
    says("NamespaceFinalizersRemaining").or_else(|| says("NamespaceContentRemaining"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn explained(namespace: Value, pods: &[Value], records: &[String]) -> Option<Reason> {
        let pods: Vec<Pod> = pods.iter().map(|pod| serde_json::from_value(pod.clone()).expect("a pod")).collect();
        let commands = Commands { program: String::new(), place: " -n shop".to_owned() };
        let now = "2026-11-21T10:05:00Z".parse().expect("a time");
        reason(&serde_json::from_value(namespace).expect("a namespace"), &pods, records, now, &commands)
    }

    fn leaving() -> Value {
        json!({ "metadata": { "name": "shop", "deletionTimestamp": "2026-11-21T10:00:00Z" } })
    }

    fn pod(finalizers: &[&str], until: &str) -> Value {
        json!({ "metadata": { "name": "orders-a", "finalizers": finalizers, "deletionTimestamp": until,
            "deletionGracePeriodSeconds": 720 } })
    }

    #[test]
    fn a_namespace_that_stays_is_not_explained() {
        assert_eq!(
            explained(json!({ "metadata": { "name": "shop" } }), &[pod(&[POD_FINALIZER], "2026-11-21T10:00:00Z")], &[]),
            None
        );
    }

    #[test]
    fn whoever_holds_it_is_named_and_that_it_is_not_us() {
        let later = "2026-11-21T10:12:00Z";
        let status = json!({ "conditions": [
            { "type": "NamespaceContentRemaining", "status": "True", "message": "Some resources are remaining: widgets." },
        ] });
        let mut with_content = leaving();
        with_content["status"] = status;
        for (namespace, pods, records, expected, release) in [
            (
                leaving(),
                vec![pod(&[], later)],
                vec![],
                "nothing of ours holds it; pod orders-a has a grace period of 12m0s",
                "pods",
            ),
            (leaving(), vec![pod(&[], later)], vec![], "of which 7m0s are left", "pods"),
            (leaving(), vec![pod(&[], later), pod(&[], later)], vec![], "pods beside it: 1", "pods"),
            (leaving(), vec![pod(&[], "2026-11-21T10:04:00Z")], vec![], "12m0s, is over, but its kubelet", "pods"),
            (leaving(), vec![pod(&["a/b"], later)], vec![], "the finalizer a/b, which is not ours", "pods"),
            (leaving(), vec![json!({ "metadata": { "name": "x" } })], vec![], "pod x has not been deleted yet", "pods"),
            (
                leaving(),
                vec![pod(&[POD_FINALIZER], later)],
                vec![],
                "of ours pod orders-a (finalizer migration-gate.dev/outcome,",
                "attempt",
            ),
            (
                leaving(),
                vec![],
                vec!["orders.deployment".to_owned()],
                "of ours record orders.deployment (finalizer migration-gate.dev/active) holds",
                "attempt",
            ),
            (leaving(), vec![], vec![], "nothing of ours holds it, and it has no pods", "describe namespace"),
            (
                with_content,
                vec![],
                vec![],
                "nothing of ours holds it; Some resources are remaining: widgets.",
                "describe namespace",
            ),
        ] {
            let reason = explained(namespace, &pods, &records).expect("it is being deleted");
            assert_eq!(reason.rule, Rule::NamespaceLeaves);
            assert!(reason.because.starts_with("namespace shop has been in deletion for 5m0s"), "{reason:?}");
            assert!(reason.because.contains(expected), "{expected}: {reason:?}");
            assert!(reason.released_by[0].contains(release), "{release}: {reason:?}");
        }
        let both = explained(leaving(), &[pod(&[POD_FINALIZER], later), pod(&[], later)], &[]).expect("it leaves");
        assert!(
            both.because.contains("of ours pod orders-a") && both.because.contains("grace period of 12m0s"),
            "{both:?}"
        );
    }
}
