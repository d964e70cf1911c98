//! Time, as coarse as it can be.
//!
//! Three times matter to a decision, and each has the smallest abstraction that is still sound:
//!
//! - A **back-off** and an agent's **head start** protect nothing: while they hold, a controller only does less. So no state
//!   has a clock for them. Every time that is recorded is the same, and a decision is made either at that very moment,
//!   when all of them hold, or an hour later, when none does ([`Hour`]): both are tried in every state.
//! - The silence of a **Lease** is what the answer to a question says ([`Step::Deliver`]): of a machine that can be
//!   reached it is never long enough.
//! - The **wait for the end of an attempt that was given up without a proof** does protect something, so it has steps of
//!   its own. In [`Step::Minute`] `LONGEST_ENDING` passes for everybody, in [`Step::Hour`] the longest grace period of any
//!   pod. What that is long enough for must have happened before it: an agent does at once what it is about to do; a
//!   kubelet that can reach the API server tells its agents of a mark, or stops those whose pod goes; a command that its
//!   agent ends is killed after the agent's grace period, and one whose pod goes after that of the pod. A kubelet tells a
//!   pod that goes of no mark any more (`desiredStateOfWorldPopulator`, `findAndAddNewPods`).
//!
//! What lives on after that all the same, because its machine is cut off, is the exception from the first promise that
//! docs/design.md makes in section 9. It is granted to nobody about whom nobody was wrong ([`Ghost::misjudged`]).
//!
//! [`Ghost::misjudged`]: crate::world::Ghost::misjudged
//! [`Step::Deliver`]: crate::step::Step::Deliver
//! [`Step::Hour`]: crate::step::Step::Hour
//! [`Step::Minute`]: crate::step::Step::Minute

use crate::config::Config;
use crate::kubelet::{is_reachable, news_of};
use crate::step::Step;
use crate::world::{GROUPS, Machine, State, Stop, Waited};
use migration_gate::agent::signal::Order;

/// When a decision is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hour {
    /// In the moment of all that is recorded: every back-off holds.
    Same,
    /// So much later that none does.
    Later,
}

impl Config {
    /// The time that may pass now.
    pub(crate) fn steps_of_time(&self, state: &State, steps: &mut Vec<Step>) {
        // Where every pod's grace period is shorter than a minute, an hour brings nothing new.
        let times = [(Step::Minute, Waited::Minute), (Step::Hour, Waited::Hour)];
        for (step, time) in times.into_iter().take(if self.patient { 2 } else { 1 }) {
            let controllers = &state.controllers[..self.controllers];
            let awaited = controllers.iter().any(|each| (0..self.groups()).any(|group| each.waits(group, time)));
            if awaited && (0..self.pods.len()).all(|slot| !self.is_due(state, slot, time)) {
                steps.push(step);
            }
        }
    }

    /// Something happens in this pod within this time in any case.
    fn is_due(&self, state: &State, slot: usize, time: Waited) -> bool {
        let machine = state.nodes[self.pods[slot].node].machine;
        let local = state.locals[slot].get();
        let Some(process) = local.process.filter(|_| machine != Machine::Off) else { return false };
        let killed = process.command.is_some_and(|command| command.stop == Stop::Due);
        let graceless = local.leaving && (!self.patient || time == Waited::Hour);
        let pod = state.pod(slot);
        let told = || match pod {
            Some(pod) if !pod.deleting && !pod.is_terminal() => news_of(&pod) != local.news,
            _ => true,
        };
        process.doing.is_some() || killed || graceless || (is_reachable(machine) && !local.leaving && told())
    }

    /// So much time passes for everybody.
    pub(crate) fn pass(&self, state: &mut State, time: Waited) {
        for controller in &mut state.controllers[..self.controllers] {
            for group in 0..GROUPS {
                if controller.waits(group, time) {
                    controller.waited[group] = time;
                }
            }
        }
        for slot in 0..self.pods.len() {
            let cut_off = state.nodes[self.pods[slot].node].machine == Machine::Cut;
            let local = state.locals[slot].get();
            let runs = local.process.is_some() && matches!(local.news.order, Order::Run(_));
            if cut_off && runs && state.ghost.misjudged & (1 << slot) != 0 {
                state.ghost.beyond |= 1 << slot;
            }
        }
    }
}
