//! The evidence table, line by line.

use crate::contract::{Outcome, Report, Trace, ending::LONGEST_ENDING};
use crate::migration::{AttemptOutcome, Fenced};

use super::evidence::{Certainty, Evidence, NODE_SILENCE, NodeDeletion, Question, lingers, weigh};
use super::snapshot::{AgentState, Exit, Found, LastSight, Live, LiveNode, Node, Pod, PodPhase, Snapshot};
use super::testing::{LONG, active, asked, at, group, marked, node, pod, runner, running, silence, uid, verdict};

fn weighed(pods: Vec<Pod>, bend: impl FnOnce(&mut Snapshot)) -> Evidence {
    let mut snapshot = group(running("a", 3), pods);
    bend(&mut snapshot);
    weigh(&active("a", 3), &snapshot, NodeDeletion::Proves)
}

fn outcome(evidence: &Evidence) -> Option<AttemptOutcome> {
    match evidence {
        Evidence::Ended(ending) => Some(ending.outcome),
        _ => None,
    }
}

fn exited(exit: Exit) -> Pod {
    Pod { agent: AgentState::Exited(exit), ..runner("a", 3) }
}

#[test]
fn a_verdict_counts_as_it_says() {
    for (said, recorded) in [
        (Outcome::Succeeded, AttemptOutcome::Succeeded),
        (Outcome::Failed, AttemptOutcome::Failed),
        (Outcome::TimedOut, AttemptOutcome::TimedOut),
        (Outcome::NotStarted, AttemptOutcome::NotStarted),
    ] {
        let now = weighed(vec![exited(verdict("a", 3, said))], |_| {});
        assert_eq!(outcome(&now), Some(recorded), "{said:?} in the container's state");
        let before = Pod { agent_before: Some(verdict("a", 3, said)), ..runner("a", 3) };
        assert_eq!(outcome(&weighed(vec![before], |_| {})), Some(recorded), "{said:?} in its last state");
    }
}

#[test]
fn a_verdict_on_another_attempt_or_pod_says_nothing() {
    for exit in [verdict("a", 2, Outcome::Succeeded), verdict("b", 3, Outcome::Succeeded)] {
        assert_eq!(weighed(vec![exited(exit)], |_| {}), Evidence::Runs(None));
    }
}

#[test]
fn an_agent_without_a_journal_is_believed_less_than_the_one_before_it() {
    let denied = |before: Exit| Pod { agent_before: Some(before), ..exited(verdict("a", 3, Outcome::NotStarted)) };
    let succeeded = weighed(vec![denied(verdict("a", 3, Outcome::Succeeded))], |_| {});
    assert_eq!(outcome(&succeeded), Some(AttemptOutcome::Succeeded));
    let repeated = Pod {
        agent_before: Some(verdict("a", 3, Outcome::Succeeded)),
        ..exited(verdict("a", 3, Outcome::Interrupted))
    };
    assert_eq!(outcome(&weighed(vec![repeated], |_| {})), Some(AttemptOutcome::Succeeded), "its outcome wasn't synced");
    let trace = Report::Trace(Trace { attempt: 3, pod_uid: uid("a"), started: 1 });
    let trace = || denied(Exit { report: Some(Box::new(trace.clone())), ..silence() });
    assert_eq!(outcome(&weighed(vec![trace()], |_| {})), Some(AttemptOutcome::Failed), "it was started");
    let going = Pod { deleting: true, ..trace() };
    assert_eq!(outcome(&weighed(vec![going], |_| {})), Some(AttemptOutcome::Interrupted));
    let earlier = weighed(vec![denied(verdict("a", 2, Outcome::Succeeded))], |_| {});
    assert_eq!(outcome(&earlier), Some(AttemptOutcome::NotStarted), "what was said of another attempt says nothing");
    let alone = Pod { agent_before: trace().agent_before, ..runner("a", 3) };
    assert_eq!(weighed(vec![alone], |_| {}), Evidence::Runs(None), "a trace alone proves no end");
}

#[test]
fn interrupted_in_a_pod_that_lives_is_a_crash_and_in_one_that_goes_a_disruption() {
    let crashed = exited(verdict("a", 3, Outcome::Interrupted));
    assert_eq!(outcome(&weighed(vec![crashed.clone()], |_| {})), Some(AttemptOutcome::Failed));
    let deleted = Pod { deleting: true, ..crashed.clone() };
    assert_eq!(outcome(&weighed(vec![deleted], |_| {})), Some(AttemptOutcome::Interrupted));
    let evicted = Pod { phase: PodPhase::Ended, ..crashed };
    assert_eq!(outcome(&weighed(vec![evicted], |_| {})), Some(AttemptOutcome::Interrupted));
}

#[test]
fn a_container_that_ended_proves_nothing_in_a_pod_that_may_restart_it() {
    let trace = Report::Trace(Trace { attempt: 3, pod_uid: uid("a"), started: 0 });
    let trace = Exit { report: Some(Box::new(trace)), ..silence() };
    for exit in [silence(), trace, Exit { out_of_memory: true, ..silence() }] {
        let terminated = exited(exit.clone());
        assert_eq!(weighed(vec![terminated.clone()], |_| {}), Evidence::Runs(None), "{exit:?}");
        let deleting = Pod { deleting: true, ..terminated };
        assert_eq!(weighed(vec![deleting], |_| {}), Evidence::Runs(None), "{exit:?}, being deleted");
    }
}

#[test]
fn a_pod_that_the_kubelet_ended_proves_it_if_its_container_was_real() {
    let ended = Pod { phase: PodPhase::Ended, ..exited(silence()) };
    assert_eq!(outcome(&weighed(vec![ended], |_| {})), Some(AttemptOutcome::Interrupted));
    let killed = Pod { phase: PodPhase::Ended, ..exited(Exit { out_of_memory: true, ..silence() }) };
    assert_eq!(outcome(&weighed(vec![killed], |_| {})), Some(AttemptOutcome::Failed));
    let synthesised = Pod { phase: PodPhase::Ended, ..exited(Exit { real: false, ..silence() }) };
    assert!(matches!(weighed(vec![synthesised], |_| {}), Evidence::Held(_)));
    let nothing = Pod { phase: PodPhase::Ended, agent: AgentState::Waiting, ..runner("a", 3) };
    assert!(matches!(weighed(vec![nothing], |_| {}), Evidence::Held(_)));
}

#[test]
fn what_the_garbage_collector_wrote_proves_nothing() {
    let collected = Pod { phase: PodPhase::Collected, ..exited(silence()) };
    assert!(matches!(weighed(vec![collected.clone()], |_| {}), Evidence::Held(_)));
    let running = Pod { agent: AgentState::Running, ..collected };
    assert!(matches!(weighed(vec![running], |_| {}), Evidence::Held(_)));
}

#[test]
fn a_missing_pod_is_asked_for_before_it_is_believed() {
    assert_eq!(weighed(vec![], |_| {}), Evidence::Ask(Question::Runner));
    let gone = |snapshot: &mut Snapshot| {
        snapshot.live = Live { asked: asked("a", 3), runner: Some(Found::Gone), ..Live::default() };
    };
    assert!(matches!(weighed(vec![], gone), Evidence::Held(_)), "it was signalled, so it may run");

    let mut snapshot = group(running("a", 3), vec![]);
    snapshot.live = Live { asked: asked("a", 3), runner: Some(Found::Gone), ..Live::default() };
    let unsignalled = crate::migration::Active { signalled_at: None, ..active("a", 3) };
    snapshot.last_sight = LastSight::Unsignalled;
    assert_eq!(ending(&weigh(&unsignalled, &snapshot, NodeDeletion::Proves)), Some(NEVER_STARTED));
    snapshot.pods = vec![pod("a")].into();
    let runs = weigh(&unsignalled, &snapshot, NodeDeletion::Proves);
    assert!(matches!(runs, Evidence::Runs(Some(_))), "the watch is yet to show how it went: {runs:?}");
}

const NEVER_STARTED: (AttemptOutcome, Certainty) = (AttemptOutcome::NotStarted, Certainty::Proven);
const PRESUMED: (AttemptOutcome, Certainty) = (AttemptOutcome::Interrupted, Certainty::Presumed);

fn ending(evidence: &Evidence) -> Option<(AttemptOutcome, Certainty)> {
    match evidence {
        Evidence::Ended(ending) => Some((ending.outcome, ending.certainty)),
        _ => None,
    }
}

#[test]
fn a_finalizer_that_was_stripped_never_means_that_nothing_started() {
    let unsignalled = crate::migration::Active { signalled_at: None, ..active("a", 3) };
    let gone = Live { asked: asked("a", 3), runner: Some(Found::Gone), ..Live::default() };
    let seen = |last_sight| {
        let mut snapshot = group(running("a", 3), vec![]);
        (snapshot.live, snapshot.last_sight) = (gone.clone(), last_sight);
        weigh(&unsignalled, &snapshot, NodeDeletion::Proves)
    };
    assert!(matches!(seen(LastSight::Signalled(3)), Evidence::Held(_)), "it went with its signal");
    assert_eq!(ending(&seen(LastSight::Signalled(2))), Some(NEVER_STARTED), "it had an earlier attempt's only");
    assert_eq!(ending(&seen(LastSight::None)), Some(PRESUMED), "nobody saw it go");

    let robbed = Pod { deleting: true, held: false, ..runner("a", 3) };
    let mut snapshot = group(running("a", 3), vec![robbed.clone()]);
    snapshot.live = Live { asked: asked("a", 3), runner: Some(Found::Here(robbed)), ..Live::default() };
    assert_eq!(weigh(&unsignalled, &snapshot, NodeDeletion::Proves), Evidence::Runs(None));
}

#[test]
fn a_pod_whose_label_was_taken_is_not_gone() {
    let taken = |snapshot: &mut Snapshot| {
        snapshot.live = Live { asked: asked("a", 3), runner: Some(Found::Unlabelled), ..Live::default() };
    };
    assert!(matches!(weighed(vec![], taken), Evidence::Held(_)));
    // Whoever gives it back may find the pod unsignalled, and signal it.
    let mut snapshot = group(running("a", 3), vec![]);
    taken(&mut snapshot);
    snapshot.last_sight = LastSight::Unsignalled;
    let unsignalled = crate::migration::Active { signalled_at: None, ..active("a", 3) };
    assert!(matches!(weigh(&unsignalled, &snapshot, NodeDeletion::Proves), Evidence::Held(_)));
    let confirmed = crate::migration::Active { confirmed_dead: true, ..active("a", 3) };
    assert!(matches!(weigh(&confirmed, &snapshot, NodeDeletion::Proves), Evidence::Held(_)));
}

#[test]
fn a_failed_pod_on_a_node_that_is_out_of_service_may_be_the_garbage_collectors_word() {
    let ended = Pod { phase: PodPhase::Ended, deleting: true, ..exited(silence()) };
    assert_eq!(ending(&weighed(vec![ended.clone()], |_| {})).map(|(_, certainty)| certainty), Some(Certainty::Proven));
    let out_of_service = Node { out_of_service: true, ..node() };
    let tainted = |snapshot: &mut Snapshot| {
        snapshot.nodes.insert("node-1".to_owned(), out_of_service.clone());
    };
    assert!(matches!(weighed(vec![ended], tainted), Evidence::Held(_)), "the node is Ready, so nothing says it is off");
}

#[test]
fn a_fenced_attempt_is_waited_for_until_it_reports_or_must_have_ended() {
    let fenced = Fenced { attempt: 3, pod_name: "a".to_owned(), pod_uid: uid("a"), at: at(0), grace_seconds: Some(30) };
    let over = at(0).checked_add(LONGEST_ENDING).expect("a time");
    let slow = Fenced { grace_seconds: Some(3600), ..fenced.clone() };
    let slow = lingers(&slow, at(0), &group(running("a", 3), vec![]), at(3600));
    assert_eq!(slow, Some(at(3630)), "its kubelet lets it live for an hour");
    let with = |pods: Vec<Pod>, now| lingers(&fenced, at(0), &group(running("a", 3), pods), now);
    for pods in [vec![], vec![marked("a", 3)], vec![Pod { phase: PodPhase::Collected, ..exited(silence()) }]] {
        assert_eq!(with(pods.clone(), at(1)), Some(over), "{pods:?}");
        assert_eq!(with(pods, over), None, "time has passed");
    }
    let reported = Pod { agent: AgentState::Exited(verdict("a", 3, Outcome::Interrupted)), ..marked("a", 3) };
    assert_eq!(with(vec![reported], at(1)), None);
    let before = Pod { agent_before: Some(verdict("a", 3, Outcome::Interrupted)), ..marked("a", 3) };
    assert_eq!(with(vec![before], at(1)), None);
    let ended = Pod { phase: PodPhase::Ended, ..exited(silence()) };
    assert_eq!(with(vec![ended], at(1)), None, "its kubelet ended it");
}

#[test]
fn a_deleted_pod_without_our_finalizer_was_never_signalled() {
    let deleting = Pod { deleting: true, ..pod("a") };
    let mut snapshot = group(running("a", 3), vec![deleting.clone()]);
    let unsignalled = crate::migration::Active { signalled_at: None, ..active("a", 3) };
    assert_eq!(weigh(&unsignalled, &snapshot, NodeDeletion::Proves), Evidence::Ask(Question::Runner));
    snapshot.live = Live { asked: asked("a", 3), runner: Some(Found::Here(deleting.clone())), ..Live::default() };
    assert_eq!(outcome(&weigh(&unsignalled, &snapshot, NodeDeletion::Proves)), Some(AttemptOutcome::NotStarted));
    assert_eq!(weigh(&active("a", 3), &snapshot, NodeDeletion::Proves), Evidence::Runs(None), "it was signalled");
    snapshot.live = Live {
        asked: asked("a", 3),
        runner: Some(Found::Here(Pod { deleting: true, ..runner("a", 3) })),
        ..Live::default()
    };
    assert_eq!(weigh(&unsignalled, &snapshot, NodeDeletion::Proves), Evidence::Runs(None), "the finalizer is there");
}

fn live_node(node: Node, silent_for: std::time::Duration) -> Option<Found<LiveNode>> {
    Some(Found::Here(LiveNode { node, silent_for }))
}

#[test]
fn a_deleted_node_is_asked_for_and_fenced_off_before_it_counts() {
    let no_node = |snapshot: &mut Snapshot| snapshot.nodes.clear();
    assert_eq!(weighed(vec![runner("a", 3)], no_node), Evidence::Ask(Question::RunnerAndNode));
    let live = Live {
        asked: asked("a", 3),
        runner: Some(Found::Here(runner("a", 3))),
        node: Some(Found::Gone),
        ..Live::default()
    };
    let gone = |snapshot: &mut Snapshot| snapshot.live = live.clone();
    assert!(matches!(weighed(vec![runner("a", 3)], gone), Evidence::Fence(_)));
    assert_eq!(outcome(&weighed(vec![marked("a", 3)], |_| {})), Some(AttemptOutcome::Interrupted), "the fence stands");
    let both = |snapshot: &mut Snapshot| {
        snapshot.live =
            Live { asked: asked("a", 3), runner: Some(Found::Gone), node: Some(Found::Gone), ..Live::default() };
    };
    assert_eq!(outcome(&weighed(vec![], both)), Some(AttemptOutcome::Interrupted), "nothing is left to fence off");
}

#[test]
fn the_live_node_counts_and_the_cached_one_only_asks() {
    let still_there = |snapshot: &mut Snapshot| {
        snapshot.nodes.clear();
        snapshot.live = Live {
            asked: asked("a", 3),
            runner: Some(Found::Here(runner("a", 3))),
            node: live_node(node(), LONG),
            ..Live::default()
        };
    };
    assert_eq!(weighed(vec![runner("a", 3)], still_there), Evidence::Runs(None));
}

#[test]
fn another_node_under_the_name_is_a_deleted_node() {
    let other = Node { uid: "another".to_owned(), ..node() };
    let replaced = |snapshot: &mut Snapshot| {
        snapshot.nodes.insert("node-1".to_owned(), other.clone());
    };
    assert_eq!(weighed(vec![runner("a", 3)], replaced), Evidence::Ask(Question::RunnerAndNode));
    let live = |snapshot: &mut Snapshot| {
        snapshot.live = Live {
            asked: asked("a", 3),
            runner: Some(Found::Here(runner("a", 3))),
            node: live_node(other.clone(), LONG),
            ..Live::default()
        };
    };
    assert!(matches!(weighed(vec![runner("a", 3)], live), Evidence::Fence(_)));
    // Where the record was rebuilt from its pods, only a missing name says anything.
    let mut snapshot = group(running("a", 3), vec![runner("a", 3)]);
    live(&mut snapshot);
    let rebuilt = crate::migration::Active { node_uid: None, ..active("a", 3) };
    assert_eq!(weigh(&rebuilt, &snapshot, NodeDeletion::Proves), Evidence::Runs(None));
}

#[test]
fn a_deleted_node_proves_nothing_where_the_installation_says_so() {
    let mut snapshot = group(running("a", 3), vec![runner("a", 3)]);
    snapshot.nodes.clear();
    assert_eq!(weigh(&active("a", 3), &snapshot, NodeDeletion::Ignored), Evidence::Runs(None));
    snapshot.live = Live {
        asked: asked("a", 3),
        runner: Some(Found::Here(runner("a", 3))),
        node: Some(Found::Gone),
        ..Live::default()
    };
    assert_eq!(weigh(&active("a", 3), &snapshot, NodeDeletion::Ignored), Evidence::Runs(None));
}

#[test]
fn out_of_service_counts_with_not_ready_and_forty_seconds_of_silence_only() {
    let off = Node { ready: false, out_of_service: true, ..node() };
    let with = |node: Node, silent_for| {
        weighed(vec![runner("a", 3)], |snapshot| {
            snapshot.live = Live {
                asked: asked("a", 3),
                runner: Some(Found::Here(runner("a", 3))),
                node: live_node(node, silent_for),
                ..Live::default()
            };
        })
    };
    assert!(matches!(with(off.clone(), NODE_SILENCE), Evidence::Fence(_)));
    assert!(matches!(with(off.clone(), NODE_SILENCE / 2), Evidence::Runs(Some(_))), "not silent for long enough");
    assert_eq!(with(Node { ready: true, ..off.clone() }, LONG), Evidence::Runs(None), "the taint alone");
    assert_eq!(with(Node { out_of_service: false, ..off.clone() }, LONG), Evidence::Runs(None), "NotReady alone");
    let cached = |snapshot: &mut Snapshot| {
        snapshot.nodes.insert("node-1".to_owned(), off.clone());
    };
    assert_eq!(weighed(vec![runner("a", 3)], cached), Evidence::Ask(Question::RunnerAndNode));
    let not_ready = |snapshot: &mut Snapshot| {
        snapshot.nodes.insert("node-1".to_owned(), Node { ready: false, ..node() });
    };
    assert_eq!(weighed(vec![runner("a", 3)], not_ready), Evidence::Runs(None), "NotReady does not even ask");
}

#[test]
fn an_operators_word_counts_after_the_fence() {
    let dead = crate::migration::Active { confirmed_dead: true, ..active("a", 3) };
    let mut snapshot = group(running("a", 3), vec![runner("a", 3)]);
    assert!(matches!(weigh(&dead, &snapshot, NodeDeletion::Proves), Evidence::Fence(_)));
    snapshot.pods = vec![marked("a", 3)].into();
    assert_eq!(outcome(&weigh(&dead, &snapshot, NodeDeletion::Proves)), Some(AttemptOutcome::Interrupted));
    snapshot.pods.clear();
    snapshot.live = Live { asked: asked("a", 3), runner: Some(Found::Gone), ..Live::default() };
    assert_eq!(outcome(&weigh(&dead, &snapshot, NodeDeletion::Proves)), Some(AttemptOutcome::Interrupted));
}

#[test]
fn a_verdict_goes_before_every_other_evidence() {
    let dead = crate::migration::Active { confirmed_dead: true, ..active("a", 3) };
    let succeeded = Pod { phase: PodPhase::Collected, ..exited(verdict("a", 3, Outcome::Succeeded)) };
    let mut snapshot = group(running("a", 3), vec![succeeded]);
    snapshot.nodes.clear();
    assert_eq!(outcome(&weigh(&dead, &snapshot, NodeDeletion::Proves)), Some(AttemptOutcome::Succeeded));
}

#[test]
fn an_answer_about_another_attempt_says_nothing_of_this_one() {
    // Another leader ended attempt 2 and elected this one while the answer was on its way.
    let late = |snapshot: &mut Snapshot| {
        snapshot.live =
            Live { asked: asked("b", 2), runner: Some(Found::Gone), node: Some(Found::Gone), ..Live::default() };
    };
    assert_eq!(weighed(vec![runner("a", 3)], late), Evidence::Runs(None));
    assert_eq!(weighed(vec![], late), Evidence::Ask(Question::Runner));
}

#[test]
fn a_pod_that_went_on_without_a_verdict_is_held_for_the_operator() {
    // After a reboot a kubelet may make up an exit code 0, or skip the init containers.
    for exit in [silence(), Exit { real: false, ..silence() }] {
        let went_on = Pod { phase: PodPhase::Running, ..exited(exit) };
        assert!(matches!(weighed(vec![went_on], |_| {}), Evidence::Held(_)));
    }
    // The pod's other containers may run beside an agent that is started again.
    for agent in [AgentState::Running, AgentState::Waiting] {
        let again = Pod { phase: PodPhase::Running, agent, ..runner("a", 3) };
        assert_eq!(weighed(vec![again], |_| {}), Evidence::Runs(None));
    }
    let reported = Pod { phase: PodPhase::Running, ..exited(verdict("a", 3, Outcome::Succeeded)) };
    assert_eq!(outcome(&weighed(vec![reported], |_| {})), Some(AttemptOutcome::Succeeded));
}

#[test]
fn a_pod_that_went_on_without_the_attempt_is_fenced_off() {
    let unsignalled = crate::migration::Active { signalled_at: None, ..active("a", 3) };
    let agent = AgentState::Exited(verdict("a", 2, Outcome::Succeeded));
    let went_on = Pod { phase: PodPhase::Running, agent, ..marked("a", 2) };
    let snapshot = group(running("a", 3), vec![went_on]);
    assert!(matches!(weigh(&unsignalled, &snapshot, NodeDeletion::Proves), Evidence::Fence(_)));
    // Where it was signalled, its agent's last word is about an attempt before that.
    assert!(matches!(weigh(&active("a", 3), &snapshot, NodeDeletion::Proves), Evidence::Fence(_)));
    let silent = Pod { phase: PodPhase::Running, ..exited(silence()) };
    let snapshot = group(running("a", 3), vec![silent]);
    let held = weigh(&active("a", 3), &snapshot, NodeDeletion::Proves);
    assert!(matches!(held, Evidence::Held(_)), "the record says that it was signalled: {held:?}");
}

#[test]
fn a_pod_that_its_kubelet_ended_before_it_was_signalled_never_starts() {
    let unsignalled = crate::migration::Active { signalled_at: None, ..active("a", 3) };
    for (pod, ends) in [
        (Pod { phase: PodPhase::Ended, agent: AgentState::Waiting, ..pod("a") }, true),
        (Pod { phase: PodPhase::Ended, agent: AgentState::Waiting, ..marked("a", 2) }, true),
        (Pod { phase: PodPhase::Ended, agent: AgentState::Waiting, ..runner("a", 3) }, false),
        (Pod { phase: PodPhase::Collected, ..pod("a") }, false),
    ] {
        let snapshot = group(running("a", 3), vec![pod]);
        let evidence = weigh(&unsignalled, &snapshot, NodeDeletion::Proves);
        assert_eq!(outcome(&evidence) == Some(AttemptOutcome::NotStarted), ends, "{:?}", snapshot.pods);
    }
}
