//! Rule 4 and what else people do to a workload while its migration runs.

use crate::contract::Outcome;
use crate::controller::decide::decide;
use crate::controller::decision::{Action, Hold};
use crate::controller::snapshot::{AgentState, Pod, PodPhase};
use crate::controller::testing::{
    FP, OLD_FP, RULES, at, group, marked, pod, runner, running, settled_record, succeeded, verdict,
};
use crate::migration::Phase;

use super::{elected, empty, opens};

#[test]
fn a_superseded_migration_never_elects_and_a_rollback_makes_it_current_again() {
    let old = Pod { fingerprint: OLD_FP.to_owned(), ..pod("old") };
    let mut snapshot = group(empty(), vec![old.clone()]);
    snapshot.workloads[0].fingerprint = OLD_FP.to_owned();
    settled_record(&mut snapshot.clone());
    snapshot.workloads[0].fingerprint = FP.to_owned();
    assert_eq!(elected(&snapshot), None);
    snapshot.workloads[0].fingerprint = OLD_FP.to_owned();
    assert_eq!(elected(&snapshot), Some(("old".to_owned(), 1)));
}

#[test]
fn two_rollouts_in_quick_succession_run_one_after_the_other() {
    let second = Pod { fingerprint: OLD_FP.to_owned(), ..pod("second") };
    let mut snapshot = group(running("first", 1), vec![runner("first", 1), second]);
    snapshot.workloads[0].fingerprint = OLD_FP.to_owned();
    assert_eq!(settled_record(&mut snapshot).actions, [], "the first one's attempt goes on");
    // The Deployment controller scales the first one's ReplicaSet down; the finalizer keeps the pod.
    snapshot.pods[0].deleting = true;
    assert_eq!(settled_record(&mut snapshot).actions, []);
    snapshot.pods[0].agent = AgentState::Exited(verdict("first", 1, Outcome::Interrupted));
    let decision = settled_record(&mut snapshot);
    assert!(
        matches!(&decision.actions[..], [Action::Settle(_, end)] if end.hold == Hold::Release && end.open.is_none())
    );
    snapshot.pods.retain(|pod| pod.name != "first");
    assert_eq!(elected(&snapshot), Some(("second".to_owned(), 2)));
    let phase = snapshot.status_mut().migration(FP).map(|migration| migration.phase);
    assert_eq!(phase, Some(Phase::Superseded), "and the first one is not tried again");
}

#[test]
fn a_rollback_to_what_succeeded_passes_from_history() {
    let mut snapshot = group(succeeded(OLD_FP), vec![Pod { fingerprint: OLD_FP.to_owned(), ..pod("old") }]);
    snapshot.workloads[0].fingerprint = OLD_FP.to_owned();
    assert_eq!(opens(&settled_record(&mut snapshot)), ["old"]);
    assert_eq!(elected(&snapshot), None);
}

#[test]
fn an_undo_to_before_the_adoption_lets_the_attempt_end_and_elects_no_more() {
    let mut snapshot = group(running("a", 1), vec![runner("a", 1), pod("b")]);
    snapshot.workloads.clear();
    assert_eq!(settled_record(&mut snapshot).actions, []);
    snapshot.pods[0].agent = AgentState::Exited(verdict("a", 1, Outcome::Failed));
    let decision = settled_record(&mut snapshot);
    assert!(matches!(&decision.actions[..], [Action::Settle(..)]), "{:?}", decision.actions);
    snapshot.pods[0] = marked("a", 1);
    let later = decide(&snapshot, RULES, at(86_400));
    assert!(matches!(&later.actions[..], [Action::Release(_)]), "{:?}", later.actions);
}

#[test]
fn a_paused_rollout_waits_for_its_pods_and_the_pods_before_it_stay_open() {
    let old = Pod { fingerprint: OLD_FP.to_owned(), ..pod("old") };
    let mut snapshot = group(succeeded(OLD_FP), vec![old]);
    assert_eq!(opens(&settled_record(&mut snapshot)), ["old"], "made while the new template was paused");
    snapshot.pods[0] = Pod { passed: true, gate_open: true, phase: PodPhase::Running, ..snapshot.pods[0].clone() };
    assert_eq!(elected(&snapshot), None);
    snapshot.pods.push(pod("new"));
    assert_eq!(elected(&snapshot), Some(("new".to_owned(), 2)));
}

#[test]
fn with_recreate_the_first_new_pod_is_elected_although_no_old_one_is_left() {
    let mut snapshot = group(succeeded(OLD_FP), vec![]);
    assert_eq!(elected(&snapshot), None);
    snapshot.pods.push(pod("new"));
    assert_eq!(elected(&snapshot), Some(("new".to_owned(), 2)));
}

#[test]
fn scaled_to_nothing_in_mid_migration_the_outcome_is_recorded_and_opens_what_comes_back() {
    let mut snapshot = group(running("a", 1), vec![Pod { deleting: true, ..runner("a", 1) }]);
    assert_eq!(settled_record(&mut snapshot).actions, [], "it runs as long as its grace lasts");
    snapshot.pods[0].phase = PodPhase::Ended;
    snapshot.pods[0].agent = AgentState::Exited(verdict("a", 1, Outcome::Succeeded));
    let decision = settled_record(&mut snapshot);
    assert!(matches!(&decision.actions[..], [Action::Settle(_, end)] if end.open.is_none()), "{:?}", decision.actions);
    snapshot.pods = vec![pod("b")].into();
    assert_eq!(opens(&settled_record(&mut snapshot)), ["b"]);
}

#[test]
fn new_pods_of_an_old_replica_set_pass_if_theirs_succeeded_while_a_newer_migration_runs() {
    let of_old = |name| Pod { fingerprint: OLD_FP.to_owned(), ..pod(name) };
    let mut status = running("a", 2);
    status.succeeded.push(OLD_FP.to_owned());
    let mut snapshot = group(status, vec![runner("a", 2), of_old("scaled-up"), pod("b")]);
    assert_eq!(opens(&settled_record(&mut snapshot)), ["scaled-up"]);
    let mut snapshot = group(running("a", 2), vec![runner("a", 2), of_old("scaled-up"), pod("b")]);
    assert_eq!(opens(&settled_record(&mut snapshot)), [""; 0], "what never succeeded waits");
}
