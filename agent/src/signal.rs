//! What the controller says to this pod: the two signal files, as the machine hears them.

use migration_gate_contract::{Opened, Signal};

/// The signal directory at one moment, as far as it is meant for this pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct News {
    /// What it says of attempts.
    pub order: Order,
    /// Whether the pass is there.
    pub opened: bool,
}

/// What the signal says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// There is none, or it is meant for another pod.
    None,
    /// Run this attempt.
    Run(Run),
    /// This attempt is over and on record.
    Settled(u32),
}

/// The order to run an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Run {
    /// Its number.
    pub attempt: u32,
    /// Seconds that its commands may take together; any, if absent.
    pub timeout_seconds: Option<u64>,
}

impl Order {
    /// Whether it says that this attempt is over: that is settled, or a later one was ordered, which happens only after
    /// that and may hide the mark.
    pub fn ends(self, attempt: u32) -> bool {
        match self {
            Order::Settled(settled) => settled >= attempt,
            Order::Run(run) => run.attempt > attempt,
            Order::None => false,
        }
    }
}

impl News {
    /// There is neither a signal nor a pass.
    pub const NONE: News = News { order: Order::None, opened: false };

    /// What the two values mean to the pod with this UID: nothing, if they name another. A pod copied with its
    /// annotations, or a StatefulSet's successor of the same name, must not obey its model's signals.
    pub fn for_pod(uid: &str, signal: Option<&Signal>, opened: Option<&Opened>) -> News {
        let order = match signal.filter(|signal| signal.pod_uid() == uid) {
            None => Order::None,
            Some(Signal::Run(run)) => Order::Run(Run { attempt: run.attempt, timeout_seconds: run.timeout_seconds }),
            Some(Signal::Settled(settled)) => Order::Settled(settled.attempt),
        };
        News { order, opened: opened.is_some_and(|opened| opened.pod_uid == uid) }
    }
}
