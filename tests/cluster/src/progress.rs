//! What a person sees while it takes long: one line a step on standard error, with the time since the
//! program's first step, and every ten seconds what is being waited for.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

/// Says what is being done now.
pub fn step(what: impl AsRef<str>) {
    let elapsed = start().elapsed().as_secs_f32();
    eprintln!("[testcluster {elapsed:6.1}s] {}", what.as_ref());
}

/// What one look at the thing waited for has shown.
#[derive(Debug)]
pub enum Seen<T> {
    /// It is there.
    Done(T),
    /// Not yet, and what was seen instead.
    NotYet(String),
}

impl<T, E: std::fmt::Display> From<std::result::Result<T, E>> for Seen<T> {
    fn from(result: std::result::Result<T, E>) -> Self {
        match result {
            Ok(value) => Seen::Done(value),
            Err(error) => Seen::NotYet(error.to_string()),
        }
    }
}

/// Looks again and again until `look` says that it is done; an error from `look` ends the wait at once.
///
/// # Errors
/// [`Error::TimedOut`] with what was seen last, or the error of `look`.
pub fn wait<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<Seen<T>>) -> Result<T> {
    /// Short enough not to be felt in a test, long enough not to load two cores with kubectl.
    const PAUSE: Duration = Duration::from_millis(100);
    const SAY_EVERY: Duration = Duration::from_secs(10);
    let begin = Instant::now();
    let mut said = begin;
    loop {
        let last = match look()? {
            Seen::Done(value) => return Ok(value),
            Seen::NotYet(last) => last,
        };
        if begin.elapsed() >= limit {
            return Err(Error::TimedOut { what: what.to_owned(), after: limit, last });
        }
        if said.elapsed() >= SAY_EVERY {
            step(format!("still waiting for {what} ({} s so far): {}", begin.elapsed().as_secs(), first_line(&last)));
            said = Instant::now();
        }
        std::thread::sleep(PAUSE);
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_that_ends_returns_the_value() {
        let mut looks = 0;
        let value = wait("the third look", Duration::from_secs(5), || {
            looks += 1;
            Ok(if looks == 3 { Seen::Done(looks) } else { Seen::NotYet(format!("look {looks}")) })
        });
        assert_eq!(value.ok(), Some(3));
    }

    #[test]
    fn a_wait_that_is_too_long_says_what_it_saw_last() {
        let result: Result<()> = wait("never", Duration::ZERO, || Ok(Seen::NotYet("only this".into())));
        let message = result.map_err(|error| error.to_string()).expect_err("it can't be done");
        assert_eq!(message, "gave up after 0 s waiting for never: only this");
    }
}
