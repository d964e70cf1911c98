//! A migration's command, as if it ran.

use std::time::{Duration, Instant};

use migration_gate_agent::attempt::Exit;

use crate::script::{End, Fate};
use crate::witness::Truth;

/// From a SIGTERM to the end of a command that heeds it.
const MOMENT: Duration = Duration::from_millis(20);
/// The signals' numbers.
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// A command that runs.
#[derive(Clone, Debug)]
pub struct Command {
    fate: Fate,
    began: Instant,
    asked: Option<Instant>,
    kill_at: Option<Instant>,
}

/// How a command is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// It ended, and its agent sees that.
    Ended(Exit, Truth),
    /// Its container was killed; whether the runtime forgot that there was one.
    ContainerKilled {
        /// It did.
        forgotten: bool,
    },
}

impl Command {
    /// Starts one with this fate.
    #[must_use]
    pub fn start(fate: Fate, now: Instant) -> Command {
        Command { fate, began: now, asked: None, kill_at: None }
    }

    /// Sends it SIGTERM, and SIGKILL after the grace period, if there is one. Said again, it changes nothing.
    pub fn ask(&mut self, grace: Option<Duration>, now: Instant) {
        self.asked.get_or_insert(now);
        if let Some(grace) = grace {
            self.kill_at.get_or_insert(now + grace);
        }
    }

    /// When it is over, if that is certain by now.
    #[must_use]
    pub fn over_at(&self) -> Option<Instant> {
        let heeds = self.asked.map(|asked| asked + self.fate.deaf.max(MOMENT));
        [self.by_itself(), heeds, self.kill_at].into_iter().flatten().min()
    }

    fn by_itself(&self) -> Option<Instant> {
        (self.fate.end != End::Hangs).then(|| self.began + self.fate.after)
    }

    /// How it is over, if it is.
    #[must_use]
    pub fn over(&self, now: Instant) -> Option<Over> {
        let over_at = self.over_at().filter(|at| *at <= now)?;
        if self.by_itself() == Some(over_at) {
            return Some(self.own_end());
        }
        let signal = if self.kill_at == Some(over_at) { SIGKILL } else { SIGTERM };
        Some(Over::Ended(Exit::Signal(signal), Truth::Stopped))
    }

    fn own_end(&self) -> Over {
        let truth = |truth| if self.asked.is_some() { Truth::Stopped } else { truth };
        match self.fate.end {
            End::Succeeds => Over::Ended(Exit::Code(0), truth(Truth::Succeeded)),
            End::Fails | End::Hangs => Over::Ended(Exit::Code(1), truth(Truth::Failed)),
            End::Dies => Over::Ended(Exit::Signal(SIGKILL), truth(Truth::Failed)),
            End::Crashes => Over::ContainerKilled { forgotten: false },
            End::LosesSandbox => Over::ContainerKilled { forgotten: true },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_by_itself_or_as_it_is_asked_to() {
        let (now, ms) = (Instant::now(), Duration::from_millis);
        let at = |after| now + ms(after);
        let deaf = Fate { deaf: ms(300), ..Fate::new(End::Succeeds, ms(500)) };
        let command = Command::start(deaf, now);
        assert_eq!((command.over(at(499)), command.over_at()), (None, Some(at(500))));
        assert_eq!(command.over(at(500)), Some(Over::Ended(Exit::Code(0), Truth::Succeeded)));

        let mut asked = command.clone();
        asked.ask(None, at(400));
        assert_eq!(asked.over(at(500)), Some(Over::Ended(Exit::Code(0), Truth::Stopped)), "it is deaf for longer");
        let mut asked = command.clone();
        asked.ask(None, at(100));
        assert_eq!(asked.over(at(450)), Some(Over::Ended(Exit::Signal(15), Truth::Stopped)));
        let mut killed = command;
        killed.ask(Some(ms(50)), at(100));
        assert_eq!(killed.over(at(150)), Some(Over::Ended(Exit::Signal(9), Truth::Stopped)));

        let crash = Command::start(Fate::new(End::Crashes, ms(10)), now);
        assert_eq!(crash.over(at(10)), Some(Over::ContainerKilled { forgotten: false }));
        assert_eq!(Command::start(Fate::new(End::Hangs, ms(0)), now).over_at(), None);
    }
}
