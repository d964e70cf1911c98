//! Promise I6 at any state: once the faults are over, one controller brings the migration to its end.

use std::collections::HashSet;

use migration_gate::controller::snapshot::PodPhase;
use migration_gate::migration::{ConditionStatus, ConditionType};

use crate::checker::Cluster;
use crate::clock::Hour;
use crate::config::Config;
use crate::intern::Id;
use crate::step::Step;
use crate::view;
use crate::world::{Container, GROUPS, Live, Pod, Signal, State};

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
    state.controllers[0].todo = [Id::of(Vec::new()); GROUPS];
    state.controllers[0].live = [Id::of(Live::default()); GROUPS];
    let mut decided_in = HashSet::new();
    let mut patience = 0;
    for _ in 0..PATIENCE {
        let mut steps = Vec::new();
        config.steps(&state, &cluster.decisions, &mut steps);
        steps.retain(|step| match step {
            // A silent Lease is what needs no recovery.
            Step::Deliver(.., silent) => !silent,
            Step::Ends(_, code) => *code == 0,
            Step::Decide(.., hour) => *hour == Hour::Later,
            _ => true,
        });
        // An agent that repeats its answer may go on for ever, but no faster than the controller.
        let (mut last, steps): (Vec<Step>, Vec<Step>) =
            steps.into_iter().partition(|step| matches!(step, Step::Patience(_)));
        // Where nothing was written since the same decision was made, there is nothing but the same questions.
        let again = |step: &Step| matches!(step, Step::Decide(..)) && decided_in.contains(&(state, *step));
        let mut step = steps.into_iter().filter(|step| !again(step)).min_by_key(urgency);
        if let Some(decide @ Step::Decide(..)) = step {
            decided_in.insert((state, decide));
        }
        if step.is_none() && patience < PATIENCE_ENDS {
            patience += 1;
            step = last.pop();
        }
        let Some(step) = step else { return judged(&config, cluster.config.controllers, state) };
        if let Step::Deliver(who, group, _) = step
            && !state.controllers[who].todo[group].get().first().is_some_and(|todo| todo.is_idle())
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
        Step::Untaint(_) | Step::Heal(_) | Step::Return(_) | Step::Relabel(_) | Step::Mend(_) => 0,
        Step::Ready(_) | Step::Register(_) | Step::Collect(_) => 1,
        Step::Garbage(_) | Step::Purge(_) | Step::LetGo(_) | Step::Vacate(_) | Step::Adopt(_) => 1,
        Step::Act(_) | Step::Targets(_) | Step::Start(_) => 2,
        Step::Sync(_) | Step::Notice(_) => 3,
        Step::Ends(..) | Step::Patience(_) | Step::Finish(_) => 4,
        Step::Publish(_) => 5,
        Step::Create(_) | Step::ScaleDown(_) => 6,
        Step::See(..) => 7,
        Step::Deliver(..) => 8,
        Step::Decide(..) | Step::Fault(..) => 9,
        Step::Minute => 10,
        Step::Hour => 11,
    }
}

fn judged(config: &Config, leaders: usize, state: State) -> Result<State, String> {
    let pods: Vec<(usize, Pod)> = (0..config.pods.len()).filter_map(|slot| Some((slot, state.pod(slot)?))).collect();
    for group in 0..config.groups() {
        let here = |(_, pod): &(usize, Pod)| usize::from(pod.group) == group;
        let here: Vec<(usize, Pod)> = pods.iter().copied().filter(here).collect();
        if is_stalled(&state, group) {
            let unaccounted = here.iter().any(|(_, pod)| is_unaccounted(pod));
            // Another leader may have settled a pod and let it go between a new record's list of pods and its first
            // status, which then knows of an attempt whose pod is gone.
            let active = state.status(group).and_then(|status| status.active.as_ref());
            let rebuilt = active.is_some_and(|active| active.node_uid.is_none());
            let renumbered = state.ghost.lost > 0 && leaders > 1;
            let wrong = state.ghost.excused || state.ghost.misjudged != 0;
            match wrong || unaccounted || rebuilt || renumbered {
                // A group may wait for another that waits for an operator.
                true => return Ok(state),
                false => return Err(format!("group {group} waits for an operator without need")),
            }
        }
    }
    for group in 0..config.groups() {
        let here = |(_, pod): &(usize, Pod)| usize::from(pod.group) == group;
        let here: Vec<(usize, Pod)> = pods.iter().copied().filter(here).collect();
        judge_group(config, &state, group, &here)?;
    }
    Ok(state)
}

fn judge_group(config: &Config, state: &State, group: usize, pods: &[(usize, Pod)]) -> Result<(), String> {
    let Some(record) = state.records[group].get() else {
        return match pods
            .iter()
            .any(|(slot, pod)| !pod.gate && !pod.is_terminal() && is_asked_for(config, state, *slot))
        {
            true => Err("there is no record, and pods wait".to_owned()),
            false => Ok(()),
        };
    };
    let Some(status) = &record.status else { return Err("the record stays empty".to_owned()) };
    if let Some(active) = &status.active {
        return Err(format!("attempt {} stays active", active.attempt));
    }
    if status.fenced.is_some() {
        return Err("an attempt stays fenced".to_owned());
    }
    let lost = state.ghost.reported & !state.ghost.recorded;
    if lost != 0 && state.ghost.lost == 0 && state.ghost.stripped == 0 && state.ghost.misjudged == 0 {
        return Err(format!("the success of migrations {lost:b} was reported and never recorded"));
    }
    for (slot, pod) in pods.iter().copied() {
        if pod.deleting {
            return Err(format!("pod {slot} stays in Terminating"));
        }
        if pod.gate || pod.is_terminal() || !is_asked_for(config, state, slot) {
            continue;
        }
        if config.suspended && state.ghost.approved & (1 << pod.fingerprint) == 0 {
            continue;
        }
        let eligible = |(other, pod): &(usize, Pod)| {
            config.pods[*other].workload == config.pods[slot].workload
                && pod.phase == PodPhase::Pending
                && is_asked_for(config, state, *other)
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
    let asked = |index: &usize| {
        let workload = state.workloads.get().each[*index];
        workload.is_gated() && config.group_of(*index, workload) == group
    };
    let nobody = pods.is_empty() && !(0..config.workloads).any(|index| asked(&index));
    match record.deleting {
        true => Err("the record stays in Terminating".to_owned()),
        false if nobody && record.owners == 0 => Err("a record stays that nobody needs".to_owned()),
        false => Ok(()),
    }
}

/// The pod is one that its workload, as it is now, made and wants.
fn is_asked_for(config: &Config, state: &State, slot: usize) -> bool {
    let (workloads, plan) = (state.workloads.get(), config.pods[slot]);
    let workload = workloads.each[plan.workload];
    let made = workloads.sets[slot] == Some(workload.incarnation) && !plan.stranger;
    let template = state.pod(slot).map(|pod| (pod.fingerprint, pod.group));
    made && workload.makes_pods() && template == Some(config.template(plan.workload, workload))
}

fn is_stalled(state: &State, group: usize) -> bool {
    let Some(status) = state.status(group) else { return false };
    let stalled = status.conditions.iter().find(|condition| condition.type_ == ConditionType::Stalled);
    stalled
        .is_some_and(|condition| condition.status == ConditionStatus::True && condition.reason == "AttemptUnaccounted")
}

/// Its attempt ended in a way that nothing proves, as the design says: an operator must decide.
fn is_unaccounted(pod: &Pod) -> bool {
    let unreal = matches!(pod.agent, Container::Exited(exit) if !exit.real);
    matches!(pod.signal, Signal::Run(..))
        && (pod.phase == PodPhase::Collected || (pod.phase == PodPhase::Ended && unreal))
}
