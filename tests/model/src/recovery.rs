//! Promise I6 at any state: once the faults are over, one controller brings the migration to its end.

use std::collections::HashSet;

use migration_gate::controller::snapshot::PodPhase;
use migration_gate::migration::{ConditionStatus, ConditionType, MigrationGateStatus};

use crate::checker::Cluster;
use crate::config::Config;
use crate::intern::Id;
use crate::step::Step;
use crate::view;
use crate::world::{Container, Live, Pod, Signal, State, Todo};

/// Steps after which a group must have come to rest.
const PATIENCE: usize = 1_000;

/// How often an agent may lose its patience before that is all that goes on.
const PATIENCE_ENDS: usize = 8;

/// Lets everything that must happen happen, with commands that succeed and no more faults.
///
/// # Errors
/// What is stuck, or not as it was promised.
pub fn recover(cluster: &Cluster, from: &State) -> Result<State, String> {
    let config = Config { controllers: 1, faults: 0, ..cluster.config.clone() };
    let mut state = *from;
    state.faults = 0;
    // One leader is left, and it has just started.
    state.controllers[0].todo = Id::of(Vec::new());
    state.controllers[0].live = Id::of(Live::default());
    let mut decided_in = HashSet::new();
    let mut patience = 0;
    for _ in 0..PATIENCE {
        let mut steps = Vec::new();
        config.steps(&state, &cluster.decisions, &mut steps);
        steps.retain(|step| match step {
            // A silent Lease is what needs no recovery.
            Step::Deliver(_, silent) => !silent,
            Step::Ends(_, code) => *code == 0,
            _ => true,
        });
        // An agent that repeats its answer may go on for ever, but no faster than the controller.
        let (mut last, steps): (Vec<Step>, Vec<Step>) =
            steps.into_iter().partition(|step| matches!(step, Step::Patience(_)));
        let mut step = steps.into_iter().min_by_key(urgency);
        if matches!(step, Some(Step::Decide(_))) {
            // Nothing was written since the same decision was made: there is nothing but the same questions.
            if !decided_in.insert(state) {
                step = None;
            }
        }
        if step.is_none() && patience < PATIENCE_ENDS {
            patience += 1;
            step = last.pop();
        }
        let Some(step) = step else { return judged(&config, state) };
        if let Step::Deliver(who, _) = step
            && !matches!(state.controllers[who].todo.get().first(), Some(Todo::AskNode { .. } | Todo::AskRunner { .. }))
        {
            decided_in.clear();
        }
        state = config.next(&state, &cluster.decisions, step);
        if let Some(broken) = state.ghost.broken {
            return Err(format!("{broken:?} while recovering"));
        }
    }
    Err("it never comes to rest".to_owned())
}

fn urgency(step: &Step) -> u8 {
    match step {
        Step::Untaint(_) | Step::Heal(_) | Step::Return(_) => 0,
        Step::Ready(_) | Step::Collect(_) => 1,
        Step::Act(_) | Step::Targets(_) | Step::Start(_) => 2,
        Step::Sync(_) | Step::Notice(_) => 3,
        Step::Ends(..) | Step::Patience(_) | Step::Finish(_) => 4,
        Step::Publish(_) => 5,
        Step::Create(_) | Step::ScaleDown(_) => 6,
        Step::See(..) => 7,
        Step::Deliver(..) => 8,
        Step::Decide(_) | Step::Fault(..) => 9,
    }
}

fn judged(config: &Config, state: State) -> Result<State, String> {
    let pods: Vec<(usize, Pod)> = (0..config.pods.len()).filter_map(|slot| Some((slot, state.pod(slot)?))).collect();
    let Some(record) = state.record.get() else {
        return match pods.iter().any(|(_, pod)| !pod.gate) {
            true => Err("there is no record, and pods wait".to_owned()),
            false => Ok(state),
        };
    };
    let Some(status) = &record.status else { return Err("the record stays empty".to_owned()) };
    if is_stalled(status) {
        let unaccounted = pods.iter().any(|(_, pod)| is_unaccounted(pod));
        return match state.ghost.excused || unaccounted {
            true => Ok(state),
            false => Err(format!("it waits for an operator without need: {:?}", status.message)),
        };
    }
    if let Some(active) = &status.active {
        return Err(format!("attempt {} stays active", active.attempt));
    }
    let lost = state.ghost.reported & !state.ghost.recorded;
    if lost != 0 && state.ghost.lost == 0 {
        return Err(format!("the success of migrations {lost:b} was reported and never recorded"));
    }
    for (slot, pod) in pods.iter().copied() {
        if pod.deleting {
            return Err(format!("pod {slot} stays in Terminating"));
        }
        let current = config.fingerprint(config.pods[slot].workload, state.revision);
        let terminal = matches!(pod.phase, PodPhase::Ended | PodPhase::Collected);
        if pod.gate || pod.fingerprint != current || terminal {
            continue;
        }
        let eligible = |(other, pod): &(usize, Pod)| {
            config.pods[*other].workload == config.pods[slot].workload && pod.phase == PodPhase::Pending
        };
        if state.ghost.excused && !pods.iter().any(eligible) {
            // The kubelet skipped the agent of every pod: nothing is left that could run it.
            continue;
        }
        let migration = status.migration(&view::fingerprint(pod.fingerprint));
        if migration.is_none_or(|migration| migration.failures < config.backoff_limit) {
            return Err(format!("pod {slot} waits for ever"));
        }
    }
    match record.deleting {
        true => Err("the record stays in Terminating".to_owned()),
        false => Ok(state),
    }
}

fn is_stalled(status: &MigrationGateStatus) -> bool {
    let stalled = status.conditions.iter().find(|condition| condition.type_ == ConditionType::Stalled);
    stalled
        .is_some_and(|condition| condition.status == ConditionStatus::True && condition.reason == "AttemptUnaccounted")
}

/// Its attempt ended in a way that nothing proves, as the design says: an operator must decide.
fn is_unaccounted(pod: &Pod) -> bool {
    let unreal = matches!(pod.agent, Container::Exited(exit) if !exit.real);
    matches!(pod.signal, Signal::Run(_))
        && (pod.phase == PodPhase::Collected || (pod.phase == PodPhase::Ended && unreal))
}
