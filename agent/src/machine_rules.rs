//! The rules of the [machine](super::machine), each by its name.

use std::collections::BTreeMap;

use crate::attempt::{EXIT_STOPPED, Ending, Exit, Plan, Step};
use crate::journal::{Entry, JournalView};
use crate::machine::{Action, Agent, Input};
use crate::signal::{News, Order, Run};
use migration_gate_contract::{Opened, Outcome, Settled, Signal};

const OK: Exit = Exit::Code(0);
const FAILED: Ending = Ending { outcome: Outcome::Failed, exit: Some(Exit::Code(3)) };
const SUCCEEDED: Ending = Ending { outcome: Outcome::Succeeded, exit: Some(OK) };

fn order(attempt: u32) -> Run {
    Run { attempt, timeout_seconds: None }
}

fn run(attempt: u32) -> News {
    News { order: Order::Run(order(attempt)), opened: false }
}

fn settled(attempt: u32) -> News {
    News { order: Order::Settled(attempt), opened: false }
}

fn opened(news: News) -> News {
    News { opened: true, ..news }
}

fn journal<const N: usize>(entries: [(u32, Entry); N]) -> JournalView {
    JournalView::Known(BTreeMap::from(entries))
}

/// Starts an agent and lets it hear the inputs; returns what it did, first to last.
fn actions(plan: Plan, journal: &JournalView, news: News, inputs: &[Input]) -> Vec<Action> {
    let (mut agent, first) = Agent::start(plan, journal, news);
    let mut actions = vec![first];
    for input in inputs {
        let (next, action) = agent.on(*input);
        agent = next;
        actions.push(action);
    }
    actions
}

/// What an agent that runs nothing but a command did last.
fn last(journal: &JournalView, news: News, inputs: &[Input]) -> Action {
    *actions(Plan::Command, journal, news, inputs).last().expect("at least the first")
}

/// The inputs that lead from the start to the last look before the command.
fn looking(attempt: u32) -> [Input; 4] {
    [Input::Seen(run(attempt)), Input::TargetsReached, Input::Synced, Input::Written]
}

/// The inputs that lead from the start to a running command.
fn running(attempt: u32) -> Vec<Input> {
    [&looking(attempt)[..], &[Input::Seen(run(attempt))]].concat()
}

fn after_running(more: &[Input]) -> Action {
    last(&JournalView::EMPTY, News::NONE, &[&running(1)[..], more].concat())
}

#[test]
fn an_attempt_is_journalled_then_traced_then_run_then_journalled_then_told() {
    let inputs = [&running(1)[..], &[Input::CommandEnded(OK), Input::Synced, Input::Written]].concat();
    assert_eq!(
        actions(Plan::Command, &JournalView::EMPTY, News::NONE, &inputs),
        [
            Action::Wait,
            Action::Await,
            Action::WriteStarted(1),
            Action::WriteTrace(1),
            Action::LookAgain,
            Action::Spawn(order(1), Step::Command),
            Action::WriteOutcome(1, SUCCEEDED),
            Action::WriteMessage(1, SUCCEEDED),
            Action::Exit(0),
        ]
    );
}

#[test]
fn a_signal_that_was_there_at_the_start_is_never_run_and_answered_with_not_started() {
    let inputs = [Input::Synced, Input::Written];
    assert_eq!(
        actions(Plan::Command, &JournalView::EMPTY, run(3), &inputs),
        [Action::WriteOutcome(3, Ending::NOT_STARTED), Action::WriteMessage(3, Ending::NOT_STARTED), Action::Exit(75)]
    );
}

#[test]
fn a_start_without_an_outcome_is_answered_with_interrupted() {
    let journal = journal([(3, Entry::Started)]);
    assert_eq!(last(&journal, run(3), &[]), Action::WriteOutcome(3, Ending::INTERRUPTED));
    assert_eq!(last(&journal, run(3), &[Input::Synced]), Action::WriteMessage(3, Ending::INTERRUPTED));
}

#[test]
fn a_journalled_outcome_is_repeated_without_being_written_again() {
    assert_eq!(last(&journal([(3, Entry::Ended(FAILED))]), run(3), &[]), Action::WriteMessage(3, FAILED));
}

#[test]
fn an_unreadable_journal_may_hold_any_start() {
    assert_eq!(last(&JournalView::Unreadable, run(3), &[]), Action::WriteOutcome(3, Ending::INTERRUPTED));
}

#[test]
fn a_repeated_failure_lingers_for_the_mark_before_it_exits_again() {
    let journal = journal([(3, Entry::Ended(FAILED))]);
    let lingers = [Input::Written];
    assert_eq!(last(&journal, run(3), &lingers), Action::Linger);
    assert_eq!(last(&journal, run(3), &[Input::Written, Input::Seen(run(3))]), Action::Continue);
    assert_eq!(last(&journal, run(3), &[Input::Written, Input::Seen(settled(3))]), Action::Wait);
    assert_eq!(last(&journal, run(3), &[Input::Written, Input::Seen(run(4))]), Action::Await);
    assert_eq!(last(&journal, run(3), &[Input::Written, Input::Seen(opened(settled(3)))]), Action::Exit(0));
    assert_eq!(last(&journal, run(3), &[Input::Written, Input::Seen(opened(run(3)))]), Action::Exit(0));
    assert_eq!(last(&journal, run(3), &[Input::Written, Input::LingerOver]), Action::Exit(3));
    assert_eq!(last(&journal, run(3), &[Input::Written, Input::StopRequested]), Action::Exit(3));
}

#[test]
fn a_repeated_success_exits_at_once() {
    let journal = journal([(3, Entry::Ended(SUCCEEDED))]);
    assert_eq!(last(&journal, run(3), &[Input::Written]), Action::Exit(0));
}

#[test]
fn what_lingered_and_was_settled_is_not_repeated_when_an_old_signal_shows_again() {
    let journal = journal([(3, Entry::Ended(FAILED))]);
    let inputs = [Input::Written, Input::Seen(settled(3)), Input::Seen(run(3))];
    assert_eq!(last(&journal, run(3), &inputs), Action::Wait);
}

#[test]
fn an_attempt_that_the_journal_holds_is_repeated_when_its_signal_appears_late() {
    let journal = journal([(2, Entry::Ended(FAILED)), (3, Entry::Started)]);
    for stale in [News::NONE, settled(2)] {
        let expected = Action::WriteOutcome(3, Ending::INTERRUPTED);
        assert_eq!(last(&journal, stale, &[Input::Seen(run(3))]), expected, "{stale:?}");
    }
}

#[test]
fn an_attempt_earlier_than_the_journals_latest_is_never_run() {
    assert_eq!(last(&journal([(3, Entry::Started)]), News::NONE, &[Input::Seen(run(2))]), Action::Wait);
}

#[test]
fn an_attempt_that_was_settled_is_never_run() {
    assert_eq!(last(&JournalView::EMPTY, settled(3), &[Input::Seen(run(3))]), Action::Wait);
    // Nor repeated, though the journal knows it: its answer is on record.
    assert_eq!(last(&journal([(3, Entry::Started)]), settled(3), &[Input::Seen(run(3))]), Action::Wait);
    assert_eq!(last(&JournalView::EMPTY, News::NONE, &[Input::Seen(settled(3)), Input::Seen(run(2))]), Action::Wait);
}

#[test]
fn the_next_attempt_runs_in_the_same_process() {
    assert_eq!(last(&journal([(3, Entry::Started)]), settled(3), &[Input::Seen(run(4))]), Action::Await);
}

#[test]
fn a_pass_counts_whenever_it_is_there() {
    assert_eq!(last(&JournalView::EMPTY, opened(News::NONE), &[]), Action::Exit(0));
    assert_eq!(last(&JournalView::EMPTY, opened(settled(3)), &[]), Action::Exit(0));
    assert_eq!(last(&JournalView::EMPTY, News::NONE, &[Input::Seen(opened(News::NONE))]), Action::Exit(0));
}

#[test]
fn a_pass_is_heeded_only_after_the_verdict_of_an_attempt_that_was_ordered() {
    let pass = Input::Seen(opened(run(1)));
    // Before it began: the order still gets its answer, and the exit passes.
    for inputs in [vec![Input::Seen(run(1)), pass], vec![pass]] {
        let did = actions(Plan::Command, &JournalView::EMPTY, News::NONE, &[inputs, looking(1)[2..].to_vec()].concat());
        let end = [
            Action::WriteOutcome(1, Ending::NOT_STARTED),
            Action::WriteMessage(1, Ending::NOT_STARTED),
            Action::Exit(0),
        ];
        assert!(did.ends_with(&end), "{did:?}");
    }
    // While it runs: not at all.
    assert_eq!(after_running(&[pass]), Action::Continue);
    // At the start, with an attempt that the journal knows.
    let journal = journal([(1, Entry::Ended(FAILED))]);
    assert_eq!(
        actions(Plan::Command, &journal, opened(run(1)), &[Input::Written]),
        [Action::WriteMessage(1, FAILED), Action::Exit(0)]
    );
}

#[test]
fn signals_for_another_pod_are_ignored() {
    let mine = Signal::Settled(Settled { pod_uid: "mine".to_owned(), attempt: 3 });
    let pass = Opened { pod_uid: "mine".to_owned(), migration: "00".to_owned() };
    assert_eq!(News::for_pod("mine", Some(&mine), Some(&pass)), opened(settled(3)));
    assert_eq!(News::for_pod("other", Some(&mine), Some(&pass)), News::NONE);
    assert_eq!(News::for_pod("mine", None, None), News::NONE);
}

#[test]
fn a_waiting_agent_that_is_asked_to_stop_exits_without_a_verdict() {
    assert_eq!(last(&JournalView::EMPTY, News::NONE, &[Input::StopRequested]), Action::Exit(EXIT_STOPPED));
}

#[test]
fn a_stop_while_targets_are_awaited_burns_no_attempt() {
    let inputs = [Input::Seen(run(1)), Input::StopRequested];
    assert_eq!(last(&JournalView::EMPTY, News::NONE, &inputs), Action::WriteOutcome(1, Ending::NOT_STARTED));
}

#[test]
fn news_are_heeded_while_targets_are_awaited() {
    let heard = |news| last(&JournalView::EMPTY, News::NONE, &[Input::Seen(run(2)), Input::Seen(news)]);
    assert_eq!(heard(run(2)), Action::Continue);
    assert_eq!(heard(run(1)), Action::Continue);
    assert_eq!(heard(settled(1)), Action::Continue);
    assert_eq!(heard(settled(2)), Action::Wait);
    assert_eq!(heard(opened(settled(2))), Action::Exit(0));
    assert_eq!(heard(run(3)), Action::Await);
    let later = [Input::Seen(run(2)), Input::Seen(run(3)), Input::TargetsReached];
    assert_eq!(last(&JournalView::EMPTY, News::NONE, &later), Action::WriteStarted(3));
}

#[test]
fn nothing_starts_if_the_journal_cannot_be_written() {
    let inputs = [Input::Seen(run(1)), Input::TargetsReached, Input::NotSynced, Input::NotSynced, Input::Written];
    assert_eq!(
        actions(Plan::Command, &JournalView::EMPTY, News::NONE, &inputs)[3..],
        [Action::WriteOutcome(1, Ending::NOT_STARTED), Action::WriteMessage(1, Ending::NOT_STARTED), Action::Exit(75)]
    );
}

#[test]
fn an_outcome_that_cannot_be_journalled_is_told_all_the_same() {
    assert_eq!(after_running(&[Input::CommandEnded(OK), Input::NotSynced]), Action::WriteMessage(1, SUCCEEDED));
}

#[test]
fn a_stop_is_forwarded_each_time_and_makes_the_outcome_interrupted_whatever_the_exit_code() {
    assert_eq!(after_running(&[Input::StopRequested]), Action::Forward);
    assert_eq!(after_running(&[Input::StopRequested, Input::StopRequested]), Action::Forward);
    for exit in [OK, Exit::Code(1), Exit::Signal(15)] {
        let ending = Ending { outcome: Outcome::Interrupted, exit: Some(exit) };
        let inputs = [Input::StopRequested, Input::CommandEnded(exit)];
        assert_eq!(after_running(&inputs), Action::WriteOutcome(1, ending));
        assert_ne!(ending.code(), 0);
    }
}

#[test]
fn time_up_ends_the_command_and_the_first_reason_stays() {
    assert_eq!(after_running(&[Input::TimeUp]), Action::End);
    let timed_out = Ending { outcome: Outcome::TimedOut, exit: Some(OK) };
    let interrupted = Ending { outcome: Outcome::Interrupted, exit: Some(OK) };
    let [time, stop, end] = [Input::TimeUp, Input::StopRequested, Input::CommandEnded(OK)];
    assert_eq!(after_running(&[time, stop, end]), Action::WriteOutcome(1, timed_out));
    assert_eq!(after_running(&[stop, time]), Action::End);
    assert_eq!(after_running(&[stop, time, end]), Action::WriteOutcome(1, interrupted));
}

#[test]
fn a_lock_that_is_lost_interrupts_and_the_first_reason_stays() {
    let busy = Exit::Code(75);
    let ended = |inputs: &[Input], outcome| {
        let ending = Ending { outcome, exit: Some(busy) };
        assert_eq!(after_running(inputs), Action::WriteOutcome(1, ending), "{inputs:?}");
    };
    let [lost, late] = [Input::CommandInterrupted(busy), Input::CommandTimedOut(busy)];
    ended(&[lost], Outcome::Interrupted);
    ended(&[late], Outcome::TimedOut);
    ended(&[Input::StopRequested, late], Outcome::Interrupted);
    ended(&[Input::TimeUp, lost], Outcome::TimedOut);
    ended(&[Input::CommandEnded(busy)], Outcome::Failed);
}

#[test]
fn a_command_whose_attempt_is_on_record_as_over_is_ended() {
    for news in [settled(1), settled(2), run(2)] {
        assert_eq!(after_running(&[Input::Seen(news)]), Action::End, "{news:?}");
        let interrupted = Ending { outcome: Outcome::Interrupted, exit: Some(OK) };
        let inputs = [Input::Seen(news), Input::CommandEnded(OK)];
        assert_eq!(after_running(&inputs), Action::WriteOutcome(1, interrupted));
    }
    for news in [News::NONE, run(1), settled(0)] {
        assert_eq!(after_running(&[Input::Seen(news)]), Action::Continue, "{news:?}");
    }
}

#[test]
fn both_commands_must_succeed() {
    let both = |ends: &[Input]| {
        let inputs = [&running(1)[..], ends].concat();
        *actions(Plan::CommandAndVerify, &JournalView::EMPTY, News::NONE, &inputs).last().expect("at least the first")
    };
    let [ok, bad] = [Input::CommandEnded(OK), Input::CommandEnded(Exit::Code(3))];
    let look = Input::Seen(run(1));
    assert_eq!(both(&[ok]), Action::LookAgain);
    assert_eq!(both(&[ok, look]), Action::Spawn(order(1), Step::Verify));
    assert_eq!(both(&[ok, look, ok]), Action::WriteOutcome(1, SUCCEEDED));
    assert_eq!(both(&[ok, look, bad]), Action::WriteOutcome(1, FAILED));
    assert_eq!(both(&[bad]), Action::WriteOutcome(1, FAILED));
    let interrupted = Ending { outcome: Outcome::Interrupted, exit: Some(OK) };
    assert_eq!(both(&[Input::StopRequested, ok]), Action::WriteOutcome(1, interrupted));
}

#[test]
fn what_speaks_against_a_command_before_it_is_there_keeps_it_from_starting() {
    let heard = |input| last(&JournalView::EMPTY, News::NONE, &[&looking(2)[..], &[input]].concat());
    for overtaken in [settled(2), settled(3)] {
        assert_eq!(heard(Input::Seen(overtaken)), Action::Wait, "{overtaken:?}");
    }
    assert_eq!(heard(Input::Seen(run(3))), Action::Await);
    assert_eq!(heard(Input::Seen(opened(settled(2)))), Action::Exit(0));
    for input in [Input::StopRequested, Input::Seen(opened(run(2)))] {
        assert_eq!(heard(input), Action::WriteOutcome(2, Ending::NOT_STARTED), "{input:?}");
    }
    for old in [News::NONE, settled(1), run(1)] {
        assert_eq!(heard(Input::Seen(old)), Action::Spawn(order(2), Step::Command), "{old:?}");
    }
    // And not later in this process, if an old value shows again.
    let inputs = [&looking(2)[..], &[Input::Seen(settled(2)), Input::Seen(run(2))]].concat();
    assert_eq!(last(&JournalView::EMPTY, News::NONE, &inputs), Action::Wait);
}

#[test]
fn what_speaks_against_the_second_command_ends_the_attempt_between_both() {
    let between = |input| {
        let inputs = [&running(1)[..], &[Input::CommandEnded(OK), input]].concat();
        *actions(Plan::CommandAndVerify, &JournalView::EMPTY, News::NONE, &inputs).last().expect("at least the first")
    };
    for input in [Input::Seen(settled(1)), Input::Seen(run(2)), Input::StopRequested] {
        let interrupted = Ending { outcome: Outcome::Interrupted, exit: Some(OK) };
        assert_eq!(between(input), Action::WriteOutcome(1, interrupted), "{input:?}");
    }
    let timed_out = Ending { outcome: Outcome::TimedOut, exit: Some(OK) };
    assert_eq!(between(Input::TimeUp), Action::WriteOutcome(1, timed_out));
    for news in [News::NONE, run(1), opened(run(1))] {
        assert_eq!(between(Input::Seen(news)), Action::Spawn(order(1), Step::Verify), "{news:?}");
    }
}

#[test]
fn only_a_success_exits_with_zero() {
    let outcomes = [Outcome::Succeeded, Outcome::Failed, Outcome::TimedOut, Outcome::Interrupted, Outcome::NotStarted];
    for outcome in outcomes {
        for exit in [None, Some(OK), Some(Exit::Code(256)), Some(Exit::Code(-1)), Some(Exit::Signal(i32::MAX))] {
            let code = Ending { outcome, exit }.code();
            assert_eq!(code == 0, outcome == Outcome::Succeeded, "{outcome:?} {exit:?}");
        }
    }
    assert_eq!(FAILED.code(), 3);
    assert_eq!(Ending { outcome: Outcome::Failed, exit: Some(Exit::Signal(9)) }.code(), 137);
}
