//! The clusters that are checked, by name.

use crate::config::{Config, Fault};
use crate::mutants::Mutant;

/// The names.
pub fn names() -> Vec<&'static str> {
    all().into_iter().map(|(name, _)| name).collect()
}

/// The cluster with this name.
pub fn named(name: &str) -> Option<Config> {
    all().into_iter().find(|(known, _)| *known == name).map(|(_, config)| config)
}

/// Every cluster.
pub fn all() -> Vec<(&'static str, Config)> {
    use Fault::*;
    let calm = Config::calm;
    vec![
        ("calm", calm()),
        ("crash", calm().with(1, &[Crash, Kill, Sandbox, Synthesise, Fail, TimeUp, DiskFull, Delete, Force, Evict])),
        ("container", calm().with(2, &[Crash, Kill, Sandbox, Empty, Rewind, Fail])),
        ("disk", calm().with(2, &[Kill, Sandbox, DiskFull, Empty])),
        ("deleted", calm().with(2, &[Crash, Kill, Delete, Force, Evict])),
        ("nodes", calm().with(3, &[Cut, Off, NodeGone, NotReady, Taint, Wipe])),
        ("nodes-ignored", calm().nodes_ignored().with(3, &[Off, NodeGone, Taint, NotReady])),
        ("orders", calm().with(3, &[Off, Force, ConfirmDead, MarkSucceeded, Retry, Fail])),
        ("strip", calm().with(2, &[Strip, Force, ConfirmDead, Crash])),
        ("rollout", calm().with_spare().with(1, &[Rollout])),
        ("rollout-crash", calm().with_spare().with(2, &[Rollout, Crash, Kill, Fail])),
        ("lost", calm().with(2, &[Lose, Crash, Fail])),
        ("leaders", calm().two_leaders()),
        ("leaders-fail", calm().two_leaders().with(1, &[Fail, Kill, Crash, Delete])),
        ("leaders-lost", calm().two_leaders().with(2, &[Lose, Force])),
        ("group", calm().group()),
        ("group-leaders", calm().group().two_leaders()),
        ("moving", calm().with_spare().moving(1).two_leaders().with(1, &[Rollout])),
        ("moving-group", calm().group().moving(1).two_leaders().with_spare().with(1, &[Rollout])),
        ("moving-back", calm().with_spare().single().moving(2).two_leaders().with(3, &[Rollout, Fail])),
        ("moving-cold", calm().with_spare().moving(1).two_leaders().from_nothing().with(1, &[Rollout])),
        ("node-lives", calm().with(2, &[NodeGone, Cut])),
        ("taint-lies", calm().with(4, &[Taint, Cut, Delete, Kill])),
        ("confirmed", calm().with(2, &[ConfirmDead, Cut, Delete, Crash])),
        ("patient", calm().patient().with(2, &[NodeGone, ConfirmDead, Delete, Force])),
        ("fence-lost", calm().with(3, &[NodeGone, ConfirmDead, Lose, Crash])),
        ("stripped", calm().two_leaders().with(3, &[Strip, Force, Crash])),
        ("unlabelled", calm().with(3, &[Unlabel, Force, Crash, Kill])),
        ("suspended", calm().suspended().with(2, &[Approve, Crash])),
        ("limited", calm().with_spare().limited().with(2, &[Rollout, Crash])),
        ("stranger", calm().with_stranger().with(3, &[Forge, Fail, Kill])),
        ("unheard", calm().two_leaders().with(2, &[Unheard, Refused, Fail])),
        ("removed", calm().with_spare().with(3, &[Remove, RemoveLast, Orphan, Again])),
        ("removed-leaders", calm().with_spare().two_leaders().with(2, &[Remove, Orphan, Again])),
        ("removed-group", calm().group().with_spare().moving(1).with(3, &[Remove, Orphan, AgainElsewhere, Force])),
        (
            "removed-group-leaders",
            calm().group().with_spare().moving(1).two_leaders().with(2, &[Remove, AgainElsewhere]),
        ),
        ("ungated", calm().with_spare().moving(2).two_leaders().with(3, &[Ungate, Rollout])),
        ("dying", calm().two_leaders().with(3, &[Dying, Crash, Kill])),
        ("garbled", calm().with_spare().moving(1).two_leaders().with(3, &[Garble, Rollout, Vanish])),
        ("vanish", calm().two_leaders().with(3, &[Vanish, NotReady, Fail])),
        ("everything", calm().with_spare().two_leaders().with(8, EVERY)),
        ("everything-group", calm().group().two_leaders().with(8, EVERY)),
        ("everything-moving", calm().with_spare().single().moving(2).two_leaders().with(8, EVERY)),
        ("everything-moving-group", calm().group().with_spare().moving(2).two_leaders().with(8, EVERY)),
    ]
}

/// Each deliberate defect, with a cluster in which it shows.
pub fn defects() -> Vec<(Mutant, Config)> {
    use Fault::*;
    let calm = Config::calm;
    let with = |mutant: Mutant, config: Config| (mutant, config.mutated(mutant));
    vec![
        with(Mutant::SwapOnMigration, calm().group().two_leaders().with(1, &[Kill])),
        with(Mutant::SignalBeforeRecord, calm().two_leaders()),
        with(Mutant::SignalWithoutVersion, calm().two_leaders().with(3, &[Off, NodeGone])),
        with(Mutant::SettleWithoutVersion, calm().two_leaders().with(3, &[Fail, Delete, Kill])),
        with(Mutant::MarkRemoved, calm().with(4, &[Off, NodeGone, ConfirmDead, Taint, Evict])),
        with(Mutant::NotReadyIsDead, calm().with(1, &[Cut, NotReady])),
        with(Mutant::TaintAlone, calm().with(1, &[Taint])),
        with(Mutant::LeaseIgnored, calm().with(2, &[Taint, NotReady])),
        with(Mutant::NodeFromCache, calm().with(3, &[Off, NodeGone])),
        with(Mutant::RestartableIsDead, calm().with(2, &[Kill, Fail])),
        with(Mutant::CollectedIsDead, calm().nodes_ignored().with(3, &[NodeGone, Cut])),
        with(Mutant::NoFence, calm().two_leaders().with(3, &[Off, NodeGone, Taint])),
        with(Mutant::FinalizerFirst, calm().with(2, &[Crash, Delete, Force])),
        with(Mutant::NoSettling, calm().with(2, &[Crash, Fail])),
        with(Mutant::ExitZeroSucceeds, calm().with(1, &[Synthesise])),
        with(Mutant::RecordUnprotected, calm().with_spare().moving(1).with(2, &[Rollout, Lose])),
        with(Mutant::AnswerMisread, calm().two_leaders().with_spare().with(2, &[Force, Delete])),
        with(Mutant::ObeyAtStart, calm().with(2, &[Kill, Empty])),
        with(Mutant::JournalIgnored, calm().with(2, &[Kill, Rewind])),
        with(Mutant::MessageBeforeJournal, calm().with(2, &[Kill, Sandbox])),
        with(Mutant::JournalAfterExec, calm().with(2, &[Kill, Rewind])),
        with(Mutant::EldersFromCache, calm().with_spare().moving(1).two_leaders().from_nothing().with(1, &[Rollout])),
        with(Mutant::DepartureIgnored, calm().with_spare().moving(1).two_leaders().with(1, &[Rollout])),
        with(Mutant::ElderNotAwaited, calm().with_spare().moving(1).two_leaders().with(1, &[Rollout])),
        with(Mutant::SuccessLeftBehind, calm().with_spare().moving(1).two_leaders().with(1, &[Rollout])),
        with(Mutant::RebuiltFromCache, calm().two_leaders().with(2, &[Vanish, NotReady])),
        with(Mutant::StrippedIsDead, calm().with(2, &[Strip, Force])),
        with(Mutant::ReportMisread, calm().with(2, &[Fail, Kill])),
        with(Mutant::PassBeforeRecord, calm()),
        with(Mutant::TrapSucceeds, calm().with(1, &[Delete, Evict])),
        with(Mutant::FenceIgnored, calm().with(1, &[NodeGone])),
        with(Mutant::FenceReleased, calm().with(2, &[NodeGone, Lose])),
        with(Mutant::StrangerElected, calm().with_stranger()),
        with(Mutant::StrangerBelieved, calm().with_stranger().with(1, &[Forge])),
        with(Mutant::EldersByOwners, calm().group().with_spare().moving(1).with(2, &[Remove, AgainElsewhere])),
        with(Mutant::MemberForgotten, calm().group().with_spare().moving(1).with(2, &[Remove, AgainElsewhere])),
        with(Mutant::UnreadableElderIgnored, calm().with_spare().moving(1).with(2, &[Rollout, Garble])),
        with(Mutant::GoneIsNotStarted, calm().with(2, &[Strip, Force])),
        with(Mutant::SightIgnored, calm().with(2, &[Strip, Force])),
        with(Mutant::LimitOfTemplate, calm().with_spare().limited().with(1, &[Rollout])),
        with(Mutant::SuspensionIgnored, calm().suspended()),
        with(Mutant::ApprovalIgnored, calm().suspended().with(1, &[Approve])),
    ]
}

/// Every fault.
pub const EVERY: &[Fault] = &[
    Fault::Crash,
    Fault::Kill,
    Fault::Sandbox,
    Fault::Synthesise,
    Fault::Empty,
    Fault::Rewind,
    Fault::Delete,
    Fault::Force,
    Fault::Evict,
    Fault::Cut,
    Fault::Off,
    Fault::NodeGone,
    Fault::Wipe,
    Fault::NotReady,
    Fault::Taint,
    Fault::Rollout,
    Fault::Lose,
    Fault::Vanish,
    Fault::Fail,
    Fault::TimeUp,
    Fault::DiskFull,
    Fault::Strip,
    Fault::ConfirmDead,
    Fault::MarkSucceeded,
    Fault::Retry,
    Fault::Approve,
    Fault::Remove,
    Fault::RemoveLast,
    Fault::Orphan,
    Fault::Again,
    Fault::AgainElsewhere,
    Fault::Ungate,
    Fault::Dying,
    Fault::Forge,
    Fault::Unlabel,
    Fault::Garble,
    Fault::Unheard,
    Fault::Refused,
];
