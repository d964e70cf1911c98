//! What has been run: one row for each run, and what the rows say of a key.

use serde::{Deserialize, Serialize};

/// The version of the rows' meaning. A program reads rows up to its own, and refuses newer ones.
pub const VERSION: i64 = 1;
/// Interruptions of one key after which nobody tries again, as the controller's: a wrapper that is killed again and
/// again must not run its command for ever.
pub const INTERRUPTIONS: usize = 10;
/// The bytes of output that a row keeps.
pub const TAIL_BYTES: usize = 4096;
/// Runs without a key that are kept.
pub const KEYLESS_KEPT: i64 = 100;

/// One run of the command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// Its number, unique in the table.
    pub id: i64,
    /// The name of the lock that it ran under.
    pub lock: String,
    /// What it was for; empty if it runs every time.
    pub key: String,
    /// How it stands.
    pub state: State,
    /// Which run of the key it was, from 1.
    pub attempt: i64,
    /// The exit code, as a shell has it: 128 and the signal's number, if one ended it.
    pub exit: Option<i64>,
    /// A token of the process that started it.
    pub owner: String,
    /// The name of its host, and its process number there.
    pub host: String,
    /// When it started, in milliseconds since 1970 by its host's clock.
    pub started: i64,
    /// When it ended, likewise.
    pub ended: Option<i64>,
    /// How long a successor waits if this one vanished, in milliseconds: the time in which it ends its command when it
    /// loses the lock.
    pub handover: i64,
    /// The last lines of output, without secrets.
    pub tail: String,
    /// The version of its meaning.
    pub version: i64,
}

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// It was started, and has not said how it ended.
    Running,
    /// The command and its verification ended with 0.
    Succeeded,
    /// One of them did not.
    Failed,
    /// It was ended: by a signal to the wrapper, because the lock was lost, or it vanished.
    Interrupted,
}

impl State {
    /// The word in the table.
    pub fn word(self) -> &'static str {
        match self {
            State::Running => "running",
            State::Succeeded => "succeeded",
            State::Failed => "failed",
            State::Interrupted => "interrupted",
        }
    }

    /// Reads the word in the table.
    pub fn of_word(word: &str) -> Option<State> {
        [State::Running, State::Succeeded, State::Failed, State::Interrupted].into_iter().find(|s| s.word() == word)
    }
}

/// What the rows of a key mean for who has come to run it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is to be run, and this is the number of the run.
    Due {
        /// From 1.
        attempt: i64,
    },
    /// This run succeeded.
    Done(Run),
    /// Nobody is to try again; the latest run that failed or was interrupted.
    GivenUp(Run),
}

/// How often a key is tried before it is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Attempts {
    /// Until so many runs have failed, or [`INTERRUPTIONS`] were interrupted.
    AtMost(u32),
    /// For ever: somebody else counts.
    Unlimited,
}

impl std::str::FromStr for Attempts {
    type Err = String;

    fn from_str(text: &str) -> Result<Attempts, String> {
        match (text, text.parse()) {
            ("unlimited", _) => Ok(Attempts::Unlimited),
            (_, Ok(number @ 1..=1000)) => Ok(Attempts::AtMost(number)),
            _ => Err("allowed are 1 to 1000, and unlimited".to_owned()),
        }
    }
}

impl Attempts {
    fn are_spent(self, failed: usize, interrupted: usize) -> bool {
        match self {
            Attempts::AtMost(number) => failed >= number as usize || interrupted >= INTERRUPTIONS,
            Attempts::Unlimited => false,
        }
    }
}

/// Reads the rows of one key. A success counts for ever; a run that goes on, or vanished, counts as an attempt.
pub fn standing(runs: &[Run], attempts: Attempts) -> Standing {
    if let Some(done) = runs.iter().find(|run| run.state == State::Succeeded) {
        return Standing::Done(done.clone());
    }
    let count = |state: State| runs.iter().filter(|run| run.state == state).count();
    let spent = attempts.are_spent(count(State::Failed), count(State::Interrupted));
    let latest = runs.iter().filter(|run| run.state != State::Running).max_by_key(|run| run.id);
    match latest {
        Some(latest) if spent => Standing::GivenUp(latest.clone()),
        _ => Standing::Due { attempt: runs.iter().map(|run| run.attempt).max().unwrap_or(0) + 1 },
    }
}

/// What a history without an index drops when it gets longer: the oldest runs without a key.
pub fn trim(runs: &mut Vec<Run>) {
    let newest = runs.iter().map(|run| run.id).max().unwrap_or(0);
    runs.retain(|run| !run.key.is_empty() || run.state == State::Running || run.id > newest - KEYLESS_KEPT);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(states: &[State]) -> Vec<Run> {
        let numbered = states.iter().zip(1..);
        let run = |(state, id): (&State, i64)| Run {
            id,
            lock: "default".into(),
            key: "v1".into(),
            state: *state,
            attempt: id,
            exit: None,
            owner: "o".into(),
            host: "h".into(),
            started: 0,
            ended: None,
            handover: 0,
            tail: String::new(),
            version: VERSION,
        };
        numbered.map(run).collect()
    }

    #[test]
    fn attempts_are_a_number_or_unlimited() {
        assert_eq!(
            ["1", "1000", "unlimited"].map(str::parse),
            [Ok(Attempts::AtMost(1)), Ok(Attempts::AtMost(1000)), Ok(Attempts::Unlimited)]
        );
        for wrong in ["0", "1001", "-1", "many", ""] {
            assert!(wrong.parse::<Attempts>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_key_is_run_until_it_succeeds_or_its_attempts_are_used_up() {
        use State::{Failed, Interrupted, Running, Succeeded};
        let standing = |runs: &[Run], attempts| super::standing(runs, Attempts::AtMost(attempts));
        assert_eq!(standing(&[], 3), Standing::Due { attempt: 1 });
        assert_eq!(standing(&runs(&[Failed, Failed]), 3), Standing::Due { attempt: 3 });
        assert_eq!(standing(&runs(&[Failed, Interrupted, Running]), 2), Standing::Due { attempt: 4 });
        for done in [&[Succeeded][..], &[Failed, Failed, Failed, Succeeded], &[Succeeded, Failed]] {
            assert!(matches!(standing(&runs(done), 1), Standing::Done(_)), "{done:?}");
        }
        assert!(matches!(standing(&runs(&[Failed, Interrupted, Failed]), 2), Standing::GivenUp(run) if run.id == 3));
        assert!(matches!(standing(&runs(&[Interrupted; INTERRUPTIONS]), 3), Standing::GivenUp(_)));
        assert_eq!(standing(&runs(&[Interrupted; INTERRUPTIONS - 1]), 3), Standing::Due { attempt: 10 });
        let many = runs(&[[Interrupted; INTERRUPTIONS], [Failed; 10]].concat());
        assert_eq!(super::standing(&many, Attempts::Unlimited), Standing::Due { attempt: 21 });
    }
}
