//! The API server: what a controller's write does to the objects, and what its author learns from the answer.

use migration_gate::migration::MigrationGateStatus;

use crate::config::Config;
use crate::intern::Id;
use crate::kubelet::Site;
use crate::mutants::Mutant;
use crate::view;
use crate::world::{Asked, Broken, GROUPS, Label, Live, Pod, Record, Signal, Slot, State, Todo};

/// How a write went.
enum Answer {
    Done,
    /// Conflict, not found or invalid: the controller decides afresh.
    Failed,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// It is answered. If it asks for a Lease, that was silent for long enough, or wasn't.
    Answered(bool),
    /// It is carried out, and its author never hears of it.
    Unheard,
    /// It is not carried out.
    Refused,
}

/// Delivers the first thing that a controller has to do for a group.
pub fn deliver(config: &Config, state: &mut State, who: usize, group: usize, course: Course) {
    let todo = state.controllers[who].todo[group].get();
    let Some((first, rest)) = todo.split_first() else { return };
    let mut rest = rest.to_vec();
    let before = state.controllers[who];
    let answer = match course {
        Course::Answered(silent) => carry_out(config, state, who, group, *first, silent),
        Course::Unheard => {
            carry_out(config, state, who, group, *first, false);
            state.controllers[who] = before;
            Answer::Failed
        }
        Course::Refused => Answer::Failed,
    };
    if let Answer::Failed = answer {
        // The other writes of the decision are made all the same; its questions are not asked.
        rest.retain(|todo| !todo.is_question());
        state.controllers[who].live[group] = Id::of(Live::default());
    }
    state.controllers[who].todo[group] = Id::of(rest);
}

fn carry_out(config: &Config, state: &mut State, who: usize, group: usize, todo: Todo, silent: bool) -> Answer {
    match todo {
        Todo::Create { owners } => {
            if state.dying {
                state.controllers[who].refused |= 1 << group;
            }
            if state.dying || state.records[group].get().is_some() {
                return Answer::Failed;
            }
            let (group, incarnation) = (small(group), state.ghost.lost);
            let made = Record {
                group,
                incarnation,
                deleting: false,
                protected: false,
                owners,
                garbled: false,
                orders: Vec::new(),
                status: None,
            };
            set_record(state, who, group, Some(made))
        }
        Todo::Own { at, owners } => change_record(state, who, group, at, |record| record.owners |= owners),
        Todo::Protect { at } => {
            // A finalizer can't be added to what is being deleted.
            if at.get().as_ref().is_some_and(|record| record.deleting) {
                return Answer::Failed;
            }
            change_record(state, who, group, at, |record| record.protected = true)
        }
        Todo::Release { at } => change_record(state, who, group, at, |record| record.protected = false),
        Todo::Delete { at } => {
            if at != state.records[group] {
                return Answer::Failed;
            }
            delete_record(config, state, group);
            Answer::Done
        }
        Todo::Write { group, at, status } => write_status(config, state, who, group.into(), at, status.get()),
        Todo::Signal { slot, at, attempt, limited } => {
            let index = usize::from(slot);
            let Some(pod) = find(state, index) else { return Answer::Failed };
            let stale = at != state.pods[index] && config.mutant != Some(Mutant::SignalWithoutVersion);
            // The signal comes with the finalizer, which can't be added to a terminating pod.
            if stale || (pod.deleting && !pod.held) {
                return Answer::Failed;
            }
            if config.pods[index].stranger {
                state.ghost.blame(Broken::StrangerElected);
            }
            set_pod(state, who, index, Pod { signal: Signal::Run(attempt, limited), held: true, ..pod })
        }
        Todo::Settle { slot, at, mark, keep, open } => {
            let index = usize::from(slot);
            let Some(mut pod) = find(state, index) else { return Answer::Failed };
            if at != state.pods[index] && config.mutant != Some(Mutant::SettleWithoutVersion) {
                return Answer::Failed;
            }
            if let Some(attempt) = mark {
                let removed = config.mutant == Some(Mutant::MarkRemoved);
                pod.signal = if removed { Signal::None } else { Signal::Settled(attempt) };
            }
            pod.held &= keep;
            if open {
                open_gate(state, &mut pod);
            }
            let answer = set_pod(state, who, index, pod);
            if mark.is_some() {
                Site::new(config, state, index).lose_sight();
            }
            answer
        }
        Todo::Open { slot } => {
            let index = usize::from(slot);
            let Some(mut pod) = find(state, index) else { return Answer::Failed };
            open_gate(state, &mut pod);
            set_pod(state, who, index, pod)
        }
        Todo::Complain { incarnation } => {
            let Some(mut record) = state.records[group].get().clone() else { return Answer::Failed };
            if record.incarnation != incarnation {
                return Answer::Failed;
            }
            // All that there is of it is a condition that nobody reads here.
            record.status.get_or_insert_default();
            set_record(state, who, record.group, Some(record))
        }
        Todo::AskNode { asked, node } => {
            let index = usize::from(node);
            let object = match config.mutant {
                Some(Mutant::NodeFromCache) => state.controllers[who].nodes.get()[index],
                _ => state.nodes[index].object,
            };
            learn(state, who, group, asked, |live| live.node = Some((object, silent)))
        }
        Todo::AskRunner { asked, slot } => {
            let found = state.pods[usize::from(slot)];
            // Of one that is gone, the watch will show how it went.
            if found.get().pod().is_some_and(|pod| pod.label != Label::Taken) {
                state.controllers[who].pods[usize::from(slot)] = found;
            }
            learn(state, who, group, asked, |live| live.runner = Some((slot, found)))
        }
        Todo::AskPods { asked } => {
            let found = match config.mutant {
                Some(Mutant::RebuiltFromCache) => state.controllers[who].pods,
                _ => state.pods.map(|slot| Id::of(slot.get().listed())),
            };
            learn(state, who, group, asked, |live| live.pods = Some(found))
        }
        Todo::AskElders { asked } => {
            let other = GROUPS - 1 - group;
            let found = match config.mutant {
                Some(Mutant::EldersFromCache) => state.controllers[who].records[other],
                _ => state.records[other],
            };
            if !found.get().as_ref().is_some_and(|record| record.garbled) {
                state.controllers[who].believe(other, found);
            }
            learn(state, who, group, asked, |live| live.elder = Some(found))
        }
    }
}

/// A record is deleted, by whomever: at once, or when our finalizer is off it.
pub fn delete_record(config: &Config, state: &mut State, group: usize) {
    let Some(record) = state.records[group].get().clone() else { return };
    if record.protected && config.mutant != Some(Mutant::RecordUnprotected) {
        state.records[group] = Id::of(Some(Record { deleting: true, ..record }));
    } else {
        state.records[group] = Id::of(None);
        state.ghost.lost += 1;
    }
}

fn learn(state: &mut State, who: usize, group: usize, asked: Asked, change: impl FnOnce(&mut Live)) -> Answer {
    let mut live = *state.controllers[who].live[group].get();
    live.asked = Some(asked);
    change(&mut live);
    state.controllers[who].live[group] = Id::of(live);
    Answer::Done
}

/// The pod that is written to. The controller may only write to those that have our label.
fn find(state: &State, slot: usize) -> Option<Pod> {
    state.pod(slot).filter(|pod| pod.label != Label::Taken)
}

fn set_pod(state: &mut State, who: usize, slot: usize, pod: Pod) -> Answer {
    state.set_pod(slot, pod);
    // What comes back from the write is the object as it was just before it went, if it went.
    state.controllers[who].pods[slot] = Id::of(Slot::Here(pod));
    Answer::Done
}

fn open_gate(state: &mut State, pod: &mut Pod) {
    if state.ghost.recorded & (1 << pod.fingerprint) == 0 {
        state.ghost.blame(Broken::UnsoundGate);
    }
    pod.passed = true;
    pod.gate = true;
}

fn change_record(
    state: &mut State,
    who: usize,
    group: usize,
    at: Id<Option<Record>>,
    change: impl FnOnce(&mut Record),
) -> Answer {
    match state.records[group].get().clone() {
        Some(mut record) if at == state.records[group] => {
            change(&mut record);
            set_record(state, who, record.group, Some(record))
        }
        _ => Answer::Failed,
    }
}

fn set_record(state: &mut State, who: usize, group: u8, record: Option<Record>) -> Answer {
    let group = usize::from(group);
    let gone = record.as_ref().is_some_and(|record| record.deleting && !record.protected);
    state.records[group] = Id::of(if gone { None } else { record.clone() });
    state.ghost.lost += u8::from(gone);
    state.controllers[who].believe(group, Id::of(record));
    Answer::Done
}

fn write_status(
    config: &Config,
    state: &mut State,
    who: usize,
    group: usize,
    at: Id<Option<Record>>,
    status: &'static MigrationGateStatus,
) -> Answer {
    let Some(current) = state.records[group].get().clone() else { return Answer::Failed };
    let swapped = at == state.records[group];
    let merged = match config.mutant {
        Some(Mutant::SwapOnMigration) if !swapped => Mutant::merged(&current, at, status),
        _ => None,
    };
    if !swapped && merged.is_none() {
        return Answer::Failed;
    }
    let status = merged.unwrap_or_else(|| status.clone());
    for succeeded in &status.succeeded {
        let bit = 1 << view::fingerprint_number(succeeded);
        state.ghost.recorded |= bit;
        if (state.ghost.true_success | state.ghost.marked) & bit == 0 {
            state.ghost.blame(Broken::UnsoundGate);
        }
    }
    judge_end(state, current.status.as_ref(), &status);
    set_record(state, who, current.group, Some(Record { status: Some(status), ..current }))
}

/// An attempt is over only if its process is, unless somebody was wrong about it.
fn judge_end(state: &mut State, before: Option<&MigrationGateStatus>, after: &MigrationGateStatus) {
    let Some(active) = before.and_then(|status| status.active.as_ref()) else { return };
    if after.active.as_ref().is_some_and(|still| still.attempt == active.attempt) {
        return;
    }
    let slot = usize::from(view::slot_of(&active.pod_name));
    let lives = state.command(slot).is_some_and(|command| u32::from(command.attempt) == active.attempt);
    // A leader that still believes in a record that was lost may settle what the new one gave the same number.
    if lives && state.ghost.lost == 0 && state.ghost.misjudged & (1 << slot) == 0 {
        state.ghost.blame(Broken::FalseEnd);
    }
}

fn small(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}
