//! One group of very many pods: what each change costs, without an API server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use migration_gate::contract::{RECORD_FINALIZER, Run, Signal};
use migration_gate::controller::decide::decide;
use migration_gate::controller::decision::{Action, Rules};
use migration_gate::controller::evidence::NodeDeletion;
use migration_gate::controller::index::Index;
use migration_gate::controller::objects::GroupKey;
use migration_gate::controller::snapshot::{
    AgentState, Guards, Live, Node, Owner, Pod, PodPhase, Record, RecordView, Workload,
};
use migration_gate::migration::{Active, Fenced, Member, MigrationGateStatus};
use migration_gate::settings::Policy;

use crate::support::pods::FINGERPRINT;
use crate::support::{Result, say};

/// Nodes that the pods are on.
const NODES: usize = 500;
/// Migrations that succeeded before.
const SUCCEEDED: usize = 1000;
/// Changes that are measured.
const CHANGES: usize = 2000;

const RULES: Rules = Rules { node_deletion: NodeDeletion::Proves };

/// A state that the group is in while its pods change.
#[derive(Clone, Copy, Debug)]
enum State {
    /// A migration runs, and all others wait.
    Running,
    /// It succeeded, and all are open.
    Open,
    /// Nobody is elected before a process that may still live has ended.
    Fenced,
    /// The first agent runs: the change is followed by an election.
    Electing,
}

/// Measures it.
pub fn measure(pods: usize) -> Result<()> {
    println!(
        "\nOne group of {pods} pods on {NODES} nodes, {SUCCEEDED} migrations before; microseconds for each change of a pod:"
    );
    println!("\n| state | into the index | snapshot | decide, median | decide, 99 of 100 |");
    println!("|---|---:|---:|---:|---:|");
    for state in [State::Running, State::Open, State::Fenced, State::Electing] {
        say(&format!("{pods} pods, {state:?}"));
        let mut group = Group::new(state, pods);
        group.come_to_rest()?;
        let mut times: Vec<[Duration; 3]> = (0..CHANGES).map(|at| group.change(at % pods)).collect::<Result<_>>()?;
        let of = |part: usize, times: &mut Vec<[Duration; 3]>, of_100: usize| {
            times.sort_unstable_by_key(|time| time[part]);
            times[times.len() * of_100 / 100][part].as_nanos() as f64 / 1000.0
        };
        let (put, seen) = (of(0, &mut times, 50), of(1, &mut times, 50));
        let (decided, slow) = (of(2, &mut times, 50), of(2, &mut times, 99));
        println!("| {state:?} | {put:.1} | {seen:.1} | {decided:.0} | {slow:.0} |");
    }
    Ok(())
}

struct Group {
    state: State,
    index: Index,
    key: GroupKey,
    versions: u64,
}

impl Group {
    fn new(state: State, pods: usize) -> Group {
        let key = GroupKey { namespace: "shop".to_owned(), name: "shop.deployment".to_owned() };
        let mut group = Group { state, index: Index::default(), key, versions: 1000 };
        for at in 0..NODES {
            let node = Node { uid: format!("uid-of-node-{at}"), ready: true, out_of_service: false, leaving: false };
            group.index.put_node(format!("node-{at}"), node);
        }
        group.index.put_replica_set(group.key.clone(), "uid-of-set".into(), "uid-of-shop".into());
        group.index.put_workload(group.key.clone(), workload());
        for at in 0..pods {
            let pod = group.pod(at);
            group.index.put_pod(group.key.clone(), pod);
        }
        let record = group.record();
        group.index.put_record(group.key.clone(), record);
        group
    }

    fn version(&mut self) -> String {
        self.versions += 1;
        self.versions.to_string()
    }

    /// A pod as it is now; each time something else of it changed.
    fn pod(&mut self, at: usize) -> Pod {
        let open = matches!(self.state, State::Open);
        let uid = format!("01234567-89ab-cdef-0123-{at:012}");
        let runs = matches!(self.state, State::Running) && at == 0;
        let run = Run { pod_uid: uid.clone(), attempt: 1, timeout_seconds: None };
        let resource_version = self.version();
        Pod {
            name: format!("shop-7f8d9c6b5-{at:05}"),
            uid,
            resource_version,
            created: Timestamp::UNIX_EPOCH,
            fingerprint: FINGERPRINT.to_owned(),
            controller: Some(Arc::from("uid-of-set")),
            deleting: false,
            grace_seconds: 30,
            phase: if open { PodPhase::Running } else { PodPhase::Pending },
            node: Some(format!("node-{}", at % NODES)),
            signal: runs.then(|| Box::new(Signal::Run(run))),
            passed: open,
            gate_open: open,
            held: runs,
            guards: Guards::default(),
            our_guards: Guards::default(),
            agent: if open { AgentState::Waiting } else { AgentState::Running },
            agent_restarts: 0,
            agent_since: Timestamp::UNIX_EPOCH,
            agent_before: None,
        }
    }

    fn record(&mut self) -> Record {
        let now = Timestamp::now();
        let mut status = MigrationGateStatus {
            last_attempt: 1,
            succeeded: (0..SUCCEEDED).map(|at| format!("{at:032x}")).collect(),
            workloads: vec![Member::of(&workload())],
            ..MigrationGateStatus::default()
        };
        let (pod_name, pod_uid) = ("shop-7f8d9c6b5-00000".to_owned(), format!("01234567-89ab-cdef-0123-{:012}", 0));
        match self.state {
            State::Running => {
                status.active = Some(Active {
                    fingerprint: FINGERPRINT.to_owned(),
                    attempt: 1,
                    pod_name,
                    pod_uid,
                    node_name: Some("node-0".to_owned()),
                    node_uid: Some("uid-of-node-0".to_owned()),
                    elected_at: now,
                    signalled_at: Some(now),
                    confirmed_dead: false,
                    timeout_seconds: None,
                    grace_seconds: Some(30),
                });
            }
            State::Open => status.succeeded.push(FINGERPRINT.to_owned()),
            State::Fenced => {
                status.fenced = Some(Fenced { attempt: 1, pod_name, pod_uid, at: now, grace_seconds: Some(100_000) });
            }
            State::Electing => {}
        }
        Record {
            name: self.key.name.clone(),
            uid: "uid-of-record".to_owned(),
            resource_version: self.version(),
            generation: Some(1),
            deleting: false,
            managed: true,
            finalizers: vec![RECORD_FINALIZER.to_owned()],
            owners: vec![Owner::of(&workload())],
            overrides: Vec::new(),
            status: Some(status),
            fenced_since: None,
            unreadable: false,
        }
    }

    /// Writes the status as often as the decisions ask for it; not an election, which is what is measured.
    fn come_to_rest(&mut self) -> Result<()> {
        for _ in 0..10 {
            let snapshot = self.index.snapshot(&self.key, Live::default()).ok_or("the group is gone")?;
            let RecordView::Present(record) = &snapshot.record else { return Err("no record".into()) };
            let mut record = Record::clone(record);
            let actions = decide(&snapshot, RULES, Timestamp::now()).actions;
            record.resource_version = self.version();
            match actions.into_iter().next() {
                Some(Action::WriteStatus(_, status)) if !matches!(self.state, State::Electing) => {
                    record.status = Some(*status);
                }
                Some(Action::Release(_)) => record.finalizers.clear(),
                _ => return Ok(()),
            }
            self.index.put_record(self.key.clone(), record);
        }
        Err("the group does not come to rest".into())
    }

    /// A pod changes: how long it takes until that is in the index, seen, and decided on.
    fn change(&mut self, at: usize) -> Result<[Duration; 3]> {
        let pod = self.pod(at);
        // As while somebody works on the group: what was seen before is still held.
        let before = self.index.snapshot(&self.key, Live::default());
        let start = Instant::now();
        self.index.put_pod(self.key.clone(), pod);
        let put = start.elapsed();
        drop(before);
        let start = Instant::now();
        let snapshot = self.index.snapshot(&self.key, Live::default()).ok_or("the group is gone")?;
        let seen = start.elapsed();
        let (now, start) = (Timestamp::now(), Instant::now());
        let decision = decide(&snapshot, RULES, now);
        let decided = start.elapsed();
        if decision.actions.is_empty() == matches!(self.state, State::Electing) {
            return Err(format!("{:?}: {:?}", self.state, decision.actions).into());
        }
        Ok([put, seen, decided])
    }
}

fn workload() -> Workload {
    Workload {
        name: "shop".to_owned(),
        uid: "uid-of-shop".to_owned(),
        generation: 1,
        deleting: false,
        fingerprint: FINGERPRINT.to_owned(),
        image: "shop:2".to_owned(),
        command: "goose up".to_owned(),
        revision: None,
        policy: Ok(Policy { timeout: None, backoff_limit: 6, suspend: false }),
    }
}
