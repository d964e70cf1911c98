//! What becomes of a migration, written down in its own command: `migrate ok:500 fail:200/deaf:9000`. The first word is
//! for the first run of this migration, the second for the second, and the last for every one after it.
//!
//! So the life decides each fate when it writes the workload, the fake kubelet needs to know nothing but the pod, and
//! the record shows people what was bound to happen.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The program that understands these words.
pub const PROGRAM: &str = "migrate";

/// How one run goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fate {
    /// How it ends.
    pub end: End,
    /// When that happens, after its start; never, if it hangs.
    pub after: Duration,
    /// How long it goes on as if nothing were after a SIGTERM.
    pub deaf: Duration,
}

/// How a run ends that nobody ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With exit code 0.
    Succeeds,
    /// With exit code 1.
    Fails,
    /// A signal kills it.
    Dies,
    /// It never ends.
    Hangs,
    /// Its container is killed, the agent included.
    Crashes,
    /// The same, and the runtime forgets that the container was ever there.
    LosesSandbox,
}

const ENDS: [(End, &str); 6] = [
    (End::Succeeds, "ok"),
    (End::Fails, "fail"),
    (End::Dies, "die"),
    (End::Hangs, "hang"),
    (End::Crashes, "crash"),
    (End::LosesSandbox, "sandbox"),
];

impl Fate {
    /// One that ends so, so long after its start.
    #[must_use]
    pub fn new(end: End, after: Duration) -> Fate {
        Fate { end, after, deaf: Duration::ZERO }
    }
}

/// How the runs of one migration go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script(pub Vec<Fate>);

impl Script {
    /// How the run of this number, from 0, goes.
    #[must_use]
    pub fn run(&self, number: usize) -> Option<Fate> {
        self.0.get(number).or(self.0.last()).copied()
    }

    /// Reads it from a command's words; nothing, if they are something else.
    #[must_use]
    pub fn of(words: &[String]) -> Option<Script> {
        let (program, fates) = words.split_first()?;
        let fates = fates.iter().map(|word| word.parse().ok()).collect::<Option<Vec<Fate>>>()?;
        (program == PROGRAM && !fates.is_empty()).then_some(Script(fates))
    }
}

impl fmt::Display for Script {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(PROGRAM)?;
        self.0.iter().try_for_each(|fate| write!(formatter, " {fate}"))
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = ENDS.iter().find(|(end, _)| *end == self.end).map_or("?", |(_, word)| word);
        write!(formatter, "{word}:{}", self.after.as_millis())?;
        if self.deaf.is_zero() { Ok(()) } else { write!(formatter, "/deaf:{}", self.deaf.as_millis()) }
    }
}

impl FromStr for Fate {
    type Err = ();

    fn from_str(word: &str) -> Result<Fate, ()> {
        let milliseconds = |text: &str| text.parse().map(Duration::from_millis).map_err(drop);
        let (fate, deaf) = match word.split_once("/deaf:") {
            Some((fate, deaf)) => (fate, milliseconds(deaf)?),
            None => (word, Duration::ZERO),
        };
        let (end, after) = fate.split_once(':').ok_or(())?;
        let (end, _) = ENDS.iter().find(|(_, word)| *word == end).ok_or(())?;
        Ok(Fate { end: *end, after: milliseconds(after)?, deaf })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_read_as_it_is_written() {
        let deaf = Fate { deaf: Duration::from_secs(9), ..Fate::new(End::Fails, Duration::from_millis(200)) };
        let script = Script(vec![Fate::new(End::Succeeds, Duration::from_millis(500)), deaf]);
        assert_eq!(script.to_string(), "migrate ok:500 fail:200/deaf:9000");
        let words: Vec<String> = script.to_string().split(' ').map(str::to_owned).collect();
        assert_eq!(Script::of(&words), Some(script.clone()));
        assert_eq!((script.run(0), script.run(5)), (Some(script.0[0]), Some(deaf)));
        assert_eq!(Script::of(&["alembic".to_owned(), "upgrade".to_owned()]), None);
    }
}
