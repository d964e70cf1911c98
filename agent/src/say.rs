//! The agent's own words, on its standard error.

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Writes a line, if that is possible at once: an agent must never hang because nobody reads its log.
pub fn say(sentence: &str) {
    let error = rustix::stdio::stderr();
    let line = format!("migration-gate: {sentence}\n");
    let mut ready = [PollFd::new(&error, PollFlags::OUT)];
    if poll(&mut ready, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0) {
        let _ = rustix::io::write(error, line.as_bytes());
    }
}
