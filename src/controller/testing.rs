//! Small builders for the tests of the pure core: a group as it usually is, to be bent by each test.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::contract::{Outcome, RECORD_FINALIZER, Report, Run, Settled, Signal, Verdict};
use crate::migration::{Active, Member, MigrationGateStatus};
use crate::settings::Policy;

use super::decide::decide;
use super::decision::{Action, Decision, Rules};
use super::evidence::NodeDeletion;
use super::snapshot::{
    AgentState, Asked, Exit, Guards, LastSight, Live, Node, Owner, Pod, PodPhase, Record, RecordView, Snapshot,
    Workload,
};

pub(crate) const FP: &str = "0123456789abcdef0123456789abcdef";
pub(crate) const OLD_FP: &str = "fedcba9876543210fedcba9876543210";
pub(crate) const RULES: Rules = Rules { node_deletion: NodeDeletion::Proves };

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).expect("a second of this century")
}

/// A pod whose agent runs and waits.
pub(crate) fn pod(name: &str) -> Pod {
    Pod {
        name: name.to_owned(),
        uid: uid(name),
        resource_version: "10".to_owned(),
        created: at(0),
        fingerprint: FP.to_owned(),
        controller: Some(uid("shop").into()),
        deleting: false,
        grace_seconds: 30,
        phase: PodPhase::Pending,
        node: Some("node-1".to_owned()),
        signal: None,
        passed: false,
        gate_open: false,
        held: false,
        guards: Guards::default(),
        our_guards: Guards::default(),
        agent: AgentState::Running,
        agent_restarts: 0,
        agent_since: at(0),
        agent_before: None,
    }
}

pub(crate) fn uid(name: &str) -> String {
    format!("uid-of-{name}")
}

/// A pod with the run signal of an attempt.
pub(crate) fn runner(name: &str, attempt: u32) -> Pod {
    let run = Run { pod_uid: uid(name), attempt, timeout_seconds: None };
    Pod { signal: Some(Box::new(Signal::Run(run))), held: true, ..pod(name) }
}

/// A pod with the mark of an attempt.
pub(crate) fn marked(name: &str, attempt: u32) -> Pod {
    Pod { signal: Some(Box::new(Signal::Settled(Settled { pod_uid: uid(name), attempt }))), ..pod(name) }
}

/// A pod whose gate is open.
pub(crate) fn open(name: &str) -> Pod {
    Pod { passed: true, gate_open: true, phase: PodPhase::Running, ..pod(name) }
}

pub(crate) fn verdict(name: &str, attempt: u32, outcome: Outcome) -> Exit {
    Exit {
        real: true,
        out_of_memory: false,
        report: Some(Box::new(Report::Verdict(Verdict {
            attempt,
            pod_uid: uid(name),
            outcome,
            exit_code: Some(1),
            signal: None,
            start: Some(1_000),
            end: Some(2_000),
        }))),
        tail: "first line\nlast line".to_owned(),
    }
}

/// The question about this attempt of this pod.
pub(crate) fn asked(name: &str, attempt: u32) -> Option<Asked> {
    Some(Asked::Runner(attempt, uid(name)))
}

/// The end of a container that said nothing.
pub(crate) fn silence() -> Exit {
    Exit { real: true, out_of_memory: false, report: None, tail: String::new() }
}

pub(crate) fn workload(name: &str) -> Workload {
    Workload {
        name: name.to_owned(),
        uid: uid(name),
        generation: 1,
        deleting: false,
        fingerprint: FP.to_owned(),
        image: "shop:2".to_owned(),
        command: "goose up".to_owned(),
        revision: None,
        policy: Ok(policy()),
    }
}

pub(crate) fn policy() -> Policy {
    Policy { timeout: None, backoff_limit: 6, suspend: false }
}

pub(crate) fn owner(name: &str) -> Owner {
    Owner::of(&workload(name))
}

/// A record that is at rest, protected, owned by the workload `shop`, and sure of it.
pub(crate) fn record(status: MigrationGateStatus) -> Record {
    let status = MigrationGateStatus { workloads: vec![member("shop")], ..status };
    Record {
        name: "shop.deployment".to_owned(),
        uid: "uid-of-record".to_owned(),
        resource_version: "7".to_owned(),
        generation: Some(1),
        deleting: false,
        managed: true,
        finalizers: vec![RECORD_FINALIZER.to_owned()],
        owners: vec![owner("shop")],
        overrides: Vec::new(),
        status: Some(status),
        fenced_since: None,
        unreadable: false,
    }
}

pub(crate) fn member(name: &str) -> Member {
    Member::of(&workload(name))
}

pub(crate) fn active(name: &str, attempt: u32) -> Active {
    Active {
        fingerprint: FP.to_owned(),
        attempt,
        pod_name: name.to_owned(),
        pod_uid: uid(name),
        node_name: Some("node-1".to_owned()),
        node_uid: Some(uid("node-1")),
        elected_at: at(0),
        signalled_at: Some(at(1)),
        confirmed_dead: false,
        timeout_seconds: None,
        grace_seconds: None,
    }
}

/// A status with this attempt active.
pub(crate) fn running(name: &str, attempt: u32) -> MigrationGateStatus {
    MigrationGateStatus { active: Some(active(name, attempt)), last_attempt: attempt, ..MigrationGateStatus::default() }
}

pub(crate) fn succeeded(fingerprint: &str) -> MigrationGateStatus {
    MigrationGateStatus { succeeded: vec![fingerprint.to_owned()], last_attempt: 1, ..MigrationGateStatus::default() }
}

pub(crate) fn node() -> Node {
    Node { uid: uid("node-1"), ready: true, out_of_service: false, leaving: false }
}

/// The group `shop.deployment` with one workload `shop` on one Ready node.
pub(crate) fn group(status: MigrationGateStatus, pods: Vec<Pod>) -> Snapshot {
    Snapshot {
        namespace: "shop".to_owned(),
        name: "shop.deployment".to_owned(),
        record: RecordView::Present(Arc::new(record(status))),
        workloads: vec![workload("shop")],
        pods: pods.into(),
        nodes: [("node-1".to_owned(), node())].into(),
        replica_sets: BTreeMap::new(),
        elders: Vec::new(),
        last_sight: LastSight::None,
        live: Live::default(),
    }
}

impl Snapshot {
    pub(crate) fn record_mut(&mut self) -> &mut Record {
        match &mut self.record {
            RecordView::Present(record) => Arc::make_mut(record),
            other => panic!("there is no record, but {other:?}"),
        }
    }

    pub(crate) fn status_mut(&mut self) -> &mut MigrationGateStatus {
        self.record_mut().status.as_mut().expect("the record has a status")
    }
}

pub(crate) fn decided(snapshot: &Snapshot) -> Decision {
    decide(snapshot, RULES, at(10))
}

/// The status that is to be written.
pub(crate) fn written(decision: &Decision) -> Option<&MigrationGateStatus> {
    decision.actions.iter().find_map(|action| match action {
        Action::WriteStatus(at, status) if at.name == "shop.deployment" => Some(&**status),
        _ => None,
    })
}

/// Follows the decisions that write the record, as if each write succeeded at once, until they write something else.
pub(crate) fn settled_record(snapshot: &mut Snapshot) -> Decision {
    for _ in 0..8 {
        let decision = decided(snapshot);
        match written(&decision) {
            Some(status) => {
                let status = status.clone();
                *snapshot.status_mut() = status;
            }
            None => return decision,
        }
    }
    panic!("the record never comes to rest: {snapshot:#?}");
}

pub(crate) const LONG: Duration = Duration::from_secs(3600);
