//! How long a fenced-off command may still live.
//!
//! An attempt may be ended in the record while its command may still run: by what its node seems to be, or by an
//! operator's word. The mark on its pod then makes a living agent end the command, but not at once: the command is asked
//! first, and has time to finish what it is at. Whoever may be elected next must not start before that time is over, so
//! both sides take it from here: the agent each part, the controller the sum, [`LONGEST_ENDING`].
//!
//! | from the mark on the pod | at most |
//! |---|---|
//! | until the agent has read it | [`DELIVERY`] |
//! | the command gets SIGTERM, and has time until SIGKILL | [`GRACE`] |
//! | what it left behind has a moment, then SIGTERM and time until SIGKILL | [`LEFTOVER_MOMENT`] + [`LEFTOVER_GRACE`] |
//! | SIGKILL until nobody is left | [`KILLING`] |
//! | the rest of the output is passed on; then the agent reports | [`OUTPUT_PATIENCE`] |
//!
//! The time starts with the mark, and it bounds what the mark can reach. An agent whose kubelet is stopped, cut off or
//! without its container runtime reads nothing, and a process in an uninterruptible sleep of the kernel heeds no SIGKILL:
//! nobody can bound those. And a kubelet that is ending a pod shows it no mark any more, because it brings the volumes of
//! such pods up to date no longer (pkg/kubelet/volumemanager/populator, findAndAddNewPods). There the kubelet itself ends
//! the command, at the pod's `deletionTimestamp`. So [`longest_ending`] allows for the pod's own grace period;
//! a command with 120 s lived for 120 s beside its mark [seen].
//!
//! Before a command starts, the agent looks whether the mark is there. So one grace is all that an attempt can have, even
//! if the mark came while the start was being written, or between the two commands of an attempt.

use std::time::Duration;

/// How often the agent looks for a mark of which its watch tells nothing; what can't be watched is looked at more often.
pub const SLOW_LOOK: Duration = Duration::from_secs(10);

/// From the patch that writes the mark until the agent has read it. 0.13 to 0.19 s were seen; this allows for a kubelet
/// that is busy for five seconds, and then for an agent whose watch tells it nothing.
pub const DELIVERY: Duration = Duration::from_secs(15);

/// From the SIGTERM that ends a command to the SIGKILL: a pod's own default.
pub const GRACE: Duration = Duration::from_secs(30);

/// From a command's end to the SIGTERM to what it left behind: a `tee` at the end of a pipe needs a moment.
pub const LEFTOVER_MOMENT: Duration = Duration::from_millis(200);

/// From that SIGTERM to the SIGKILL.
pub const LEFTOVER_GRACE: Duration = Duration::from_secs(5);

/// From the first SIGKILL until nobody is left. The first twenty rounds take 1.05 s, and then the whole container gets it.
pub const KILLING: Duration = Duration::from_secs(4);

/// How long the rest of the output waits for whoever reads it. No command is alive then, but the report is not out yet.
pub const OUTPUT_PATIENCE: Duration = Duration::from_secs(5);

/// From the patch that writes the mark of an attempt until nothing of its command is alive and the agent has reported.
pub const LONGEST_ENDING: Duration = Duration::from_secs(60);

/// The same for a pod with this grace period, which its kubelet goes by once the pod is being deleted: it does not bring the
/// mark to such a pod any more (pkg/kubelet/volumemanager, findAndAddNewPods).
pub fn longest_ending(pod_grace: Duration) -> Duration {
    LONGEST_ENDING.saturating_sub(GRACE).saturating_add(pod_grace.max(GRACE))
}

const _: () = {
    let parts = [DELIVERY, GRACE, LEFTOVER_MOMENT, LEFTOVER_GRACE, KILLING, OUTPUT_PATIENCE];
    let (mut sum, mut part) = (Duration::ZERO, 0);
    while part < parts.len() {
        sum = sum.saturating_add(parts[part]);
        part += 1;
    }
    assert!(sum.as_millis() < LONGEST_ENDING.as_millis(), "an ending may take longer than LONGEST_ENDING");
    assert!(SLOW_LOOK.as_millis() < DELIVERY.as_millis(), "a mark may be read later than DELIVERY");
};
