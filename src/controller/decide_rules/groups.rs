//! A workload that moves between groups.

use std::sync::Arc;

use crate::contract::Outcome;
use crate::controller::decision::Action;
use crate::controller::evidence::Question;
use crate::controller::snapshot::{AgentState, Asked, Live, Pod, Record, Snapshot, Workload};
use crate::controller::testing::{
    FP, OLD_FP, active, at, decided, group, marked, member, owner, pod, policy, record, runner, running,
    settled_record, succeeded, uid, verdict, workload,
};
use crate::migration::{ConditionStatus, ConditionType, Departed, Fenced, Member, MigrationGateStatus, Phase};
use crate::settings::Policy;

use super::{elected, empty, opens};

/// A workload that was never elected for in this group, whose old group's record says this.
fn newcomer(elder: MigrationGateStatus) -> Snapshot {
    let mut snapshot = group(empty(), vec![pod("a")]);
    snapshot.status_mut().workloads.clear();
    snapshot.elders = vec![Arc::new(Record { name: "old.group".to_owned(), ..record(elder) })];
    snapshot
}

/// The same records, listed live.
fn listed(snapshot: &mut Snapshot, elders: Vec<Arc<Record>>) {
    let asked = Some(Asked::beside(snapshot.record_mut()));
    snapshot.live = Live { asked, elders: Some(elders), ..Live::default() };
}

#[test]
fn a_workload_that_moved_waits_until_its_old_group_knows_and_is_idle() {
    let mut snapshot = newcomer(running("x", 9));
    let decision = settled_record(&mut snapshot);
    let [Action::WriteStatus(at_, status)] = &decision.actions[..] else { panic!("{:?}", decision.actions) };
    assert_eq!((at_.name.as_str(), status.departed[0].workload_uid.clone()), ("old.group", uid("shop")));
    assert_eq!((status.departed[0].generation, status.workloads.len()), (1, 0));
    Arc::make_mut(&mut snapshot.elders[0]).status = Some((**status).clone());
    let decision = settled_record(&mut snapshot);
    assert_eq!(decision.actions, [], "an attempt is active there");
    assert_eq!(decision.look_again_at, Some(at(15)));
    let elder = Arc::make_mut(&mut snapshot.elders[0]).status.as_mut().expect("it has one");
    elder.active = None;
    elder.succeeded.push(OLD_FP.to_owned());
    assert_eq!(settled_record(&mut snapshot).actions, [Action::Look(Question::Elders, None)]);
    let elders = snapshot.elders.clone();
    listed(&mut snapshot, elders);
    assert_eq!(elected(&snapshot), Some(("a".to_owned(), 1)));
    settled_record(&mut snapshot);
    assert!(snapshot.status_mut().has_succeeded(OLD_FP), "its successes carry over");
    assert_eq!(snapshot.status_mut().workloads, [member("shop")]);
}

#[test]
fn the_list_counts_and_not_the_watch_when_a_workload_arrives() {
    let mut snapshot = newcomer(empty());
    snapshot.elders.clear();
    assert_eq!(
        settled_record(&mut snapshot).actions,
        [Action::Look(Question::Elders, None)],
        "the watch knows of no elder"
    );
    let elder = Arc::new(Record { name: "old.group".to_owned(), ..record(running("x", 9)) });
    listed(&mut snapshot, vec![elder.clone()]);
    let decision = settled_record(&mut snapshot);
    assert!(matches!(&decision.actions[..], [Action::WriteStatus(at, _)] if at.name == "old.group"));
    listed(&mut snapshot, vec![Arc::new(Record { status: None, ..(*elder).clone() })]);
    assert_eq!(settled_record(&mut snapshot).actions, [], "nobody knows who runs there");
    let mut stranger = Record { owners: vec![owner("another")], ..(*elder).clone() };
    stranger.status.as_mut().expect("it has one").workloads = vec![member("another")];
    let stranger = Arc::new(stranger);
    listed(&mut snapshot, vec![stranger.clone()]);
    snapshot.record_mut().resource_version = "8".to_owned();
    assert_eq!(settled_record(&mut snapshot).actions, [Action::Look(Question::Elders, None)], "listed too early");
    listed(&mut snapshot, vec![stranger]);
    assert_eq!(elected(&snapshot), Some(("a".to_owned(), 1)), "a record of others is no elder");
}

#[test]
fn a_workload_that_was_made_again_waits_for_the_attempt_of_the_one_before_it() {
    let mut snapshot = newcomer(running("x", 9));
    let before = Workload { uid: "uid-of-the-one-before".to_owned(), ..workload("shop") };
    let elder = Arc::make_mut(&mut snapshot.elders[0]);
    elder.owners.clear();
    elder.status.as_mut().expect("it has one").workloads = vec![Member::of(&before)];
    let decision = settled_record(&mut snapshot);
    let [Action::WriteStatus(_, status)] = &decision.actions[..] else { panic!("{:?}", decision.actions) };
    let [departed] = &status.departed[..] else { panic!("{:?}", status.departed) };
    assert_eq!((departed.workload_uid.as_str(), departed.generation), ("uid-of-the-one-before", 0));
    let mut status = (**status).clone();
    status.succeeded.push(FP.to_owned());
    Arc::make_mut(&mut snapshot.elders[0]).status = Some(status.clone());
    assert_eq!(settled_record(&mut snapshot).actions, []);
    status.active = None;
    Arc::make_mut(&mut snapshot.elders[0]).status = Some(status);
    let elders = snapshot.elders.clone();
    listed(&mut snapshot, elders);
    assert_eq!(elected(&snapshot), Some(("a".to_owned(), 1)), "what it succeeded in may have been another database");
}

#[test]
fn what_the_garbage_collector_takes_from_an_elder_makes_no_difference() {
    // Of two owners one was deleted while its pod ran: the reference to it is taken away, the record stays.
    let mut snapshot = newcomer(running("x", 9));
    let elder = Arc::make_mut(&mut snapshot.elders[0]);
    elder.owners = vec![owner("another")];
    let before = Workload { uid: "uid-of-the-one-before".to_owned(), ..workload("shop") };
    elder.status.as_mut().expect("it has one").workloads = vec![member("another"), Member::of(&before)];
    let decision = settled_record(&mut snapshot);
    let [Action::WriteStatus(at, status)] = &decision.actions[..] else { panic!("{:?}", decision.actions) };
    assert_eq!((at.name.as_str(), status.departed[0].name.as_str()), ("old.group", "shop"));
    Arc::make_mut(&mut snapshot.elders[0]).status = Some((**status).clone());
    let decision = settled_record(&mut snapshot);
    assert_eq!((decision.actions, decision.look_again_at), (vec![], Some(crate::controller::testing::at(15))));
}

#[test]
fn a_late_view_of_an_older_workload_does_not_keep_the_newer_one_out_for_ever() {
    // Another leader, which still believed in the workload before, noted that this one is elsewhere.
    let departed = Departed { workload_uid: uid("shop"), kind: String::new(), name: String::new(), generation: 0 };
    let mut snapshot = newcomer(empty());
    snapshot.elders.clear();
    snapshot.status_mut().departed = vec![departed];
    settled_record(&mut snapshot);
    assert_eq!(snapshot.status_mut().departed, [], "it is alive");
    assert_eq!(settled_record(&mut snapshot).actions, [Action::Look(Question::Elders, None)], "and is asked for again");
}

#[test]
fn an_elder_that_gave_an_attempt_up_without_a_proof_is_waited_for() {
    let departed = Departed { workload_uid: uid("shop"), kind: String::new(), name: String::new(), generation: 1 };
    let fenced = Fenced { attempt: 1, pod_name: "x".to_owned(), pod_uid: uid("x"), at: at(0), grace_seconds: None };
    let elder = MigrationGateStatus { departed: vec![departed], fenced: Some(fenced), ..empty() };
    let mut snapshot = newcomer(elder);
    Arc::make_mut(&mut snapshot.elders[0]).status.as_mut().expect("it has one").workloads.clear();
    assert_eq!(settled_record(&mut snapshot).look_again_at, Some(at(15)));
    Arc::make_mut(&mut snapshot.elders[0]).status.as_mut().expect("it has one").fenced = None;
    assert_eq!(settled_record(&mut snapshot).actions, [Action::Look(Question::Elders, None)]);
}

#[test]
fn an_elder_that_cannot_be_read_is_waited_for_if_an_attempt_may_be_active_in_it() {
    let mut snapshot = newcomer(empty());
    snapshot.elders.clear();
    settled_record(&mut snapshot);
    let unreadable = Record { name: "old.group".to_owned(), status: None, unreadable: true, ..record(empty()) };
    let strange = Record { owners: vec![owner("another")], ..unreadable.clone() };
    let at_rest = Record { finalizers: Vec::new(), ..strange.clone() };
    for (elder, waits) in [(unreadable, true), (strange, true), (at_rest, false)] {
        listed(&mut snapshot, vec![Arc::new(elder.clone())]);
        let decision = decided(&snapshot);
        assert_eq!(elected(&snapshot).is_none(), waits, "{elder:?}");
        assert_eq!(decision.look_again_at.is_some(), waits, "it looks again by itself");
    }
}

#[test]
fn a_member_is_remembered_as_long_as_a_process_of_it_may_be_alive() {
    let mut snapshot = group(running("a", 1), vec![marked("a", 1)]);
    snapshot.workloads.clear();
    settled_record(&mut snapshot);
    assert!(snapshot.status_mut().fenced.is_some(), "the fence stands, and nothing proves the end");
    assert_eq!(snapshot.status_mut().workloads, [member("shop")]);
    snapshot.record_mut().fenced_since = Some(at(-1000));
    settled_record(&mut snapshot);
    assert_eq!(snapshot.status_mut().workloads, []);
}

#[test]
fn a_group_elects_without_a_question_for_whom_it_elected_before() {
    let mut snapshot = group(empty(), vec![pod("a")]);
    assert_eq!(elected(&snapshot), Some(("a".to_owned(), 1)));
    snapshot.record_mut().owners = vec![owner("admin")];
    snapshot.workloads.push(workload("admin"));
    snapshot.workloads.remove(0);
    settled_record(&mut snapshot);
    assert_eq!(snapshot.status_mut().workloads, [], "who asks for nothing here any more is forgotten");
}

#[test]
fn a_record_that_every_workload_left_tells_nothing_that_was() {
    let mut snapshot = group(empty(), vec![]);
    snapshot.workloads[0].policy = Ok(Policy { backoff_limit: 0, ..policy() });
    settled_record(&mut snapshot);
    assert_eq!(snapshot.status_mut().phase, Some(Phase::Failed));
    snapshot.workloads.clear();
    settled_record(&mut snapshot);
    let status = snapshot.status_mut();
    assert_eq!(status.phase, Some(Phase::Superseded));
    assert_eq!(status.message.as_deref(), Some("no workload asks for a migration"));
    let told: Vec<_> = status.conditions.iter().map(|condition| (condition.type_, condition.status)).collect();
    let false_ = ConditionStatus::False;
    assert_eq!(told, [(ConditionType::Migrated, false_), (ConditionType::Stalled, false_)]);

    let mut snapshot = group(running("a", 1), vec![Pod { deleting: true, ..runner("a", 1) }]);
    snapshot.workloads.clear();
    settled_record(&mut snapshot);
    assert_eq!(snapshot.status_mut().phase, Some(Phase::Running), "it ends before it concerns nobody");
    snapshot.pods[0].agent = AgentState::Exited(verdict("a", 1, Outcome::Succeeded));
    settled_record(&mut snapshot);
    assert_eq!(snapshot.status_mut().phase, Some(Phase::Succeeded), "a success is one for ever");
}

#[test]
fn a_group_that_a_workload_left_does_not_elect_for_a_late_view_of_it() {
    let mut snapshot = group(empty(), vec![pod("a")]);
    let departed = Departed { workload_uid: uid("shop"), kind: String::new(), name: String::new(), generation: 4 };
    snapshot.status_mut().departed.push(departed);
    for generation in [3, 4] {
        snapshot.workloads[0].generation = generation;
        assert_eq!(elected(&snapshot), None, "generation {generation}");
    }
    snapshot.workloads[0].generation = 5;
    assert_eq!(elected(&snapshot), Some(("a".to_owned(), 1)), "it came back");
    assert_eq!(snapshot.status_mut().departed.len(), 1);
    settled_record(&mut snapshot);
    assert!(snapshot.status_mut().departed.is_empty());
}

#[test]
fn one_runner_among_several_workloads_and_one_after_the_other() {
    let controller = Some(uid("admin").into());
    let other = Pod { fingerprint: OLD_FP.to_owned(), created: at(1), controller, ..pod("b") };
    let mut snapshot = group(empty(), vec![pod("a"), other]);
    snapshot.workloads.push(Workload { fingerprint: OLD_FP.to_owned(), ..workload("admin") });
    snapshot.record_mut().owners.push(owner("admin"));
    snapshot.status_mut().workloads.push(member("admin"));
    assert_eq!(elected(&snapshot), Some(("a".to_owned(), 1)));
    snapshot.status_mut().active = Some(active("a", 1));
    snapshot.status_mut().last_attempt = 1;
    snapshot.pods[0] = runner("a", 1);
    assert_eq!(settled_record(&mut snapshot).actions, [], "the other waits");
    snapshot.pods[0].agent = AgentState::Exited(verdict("a", 1, Outcome::Succeeded));
    settled_record(&mut snapshot);
    assert_eq!(elected(&snapshot), None, "and also until the first is settled");
    snapshot.pods[0] = Pod { agent: AgentState::Running, passed: true, gate_open: true, ..marked("a", 1) };
    assert_eq!(elected(&snapshot), Some(("b".to_owned(), 2)));
}

#[test]
fn the_same_migration_runs_once_for_all_workloads_of_a_group() {
    let mut snapshot = group(succeeded(FP), vec![pod("a"), pod("b")]);
    snapshot.workloads.push(workload("admin"));
    snapshot.record_mut().owners.push(owner("admin"));
    assert_eq!(opens(&settled_record(&mut snapshot)), ["a", "b"]);
    assert_eq!(elected(&snapshot), None);
}
