//! The command's output: passed on unchanged, and its end kept for the report.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio, read, write};

use crate::report::Tail;

/// What is read and written at once. A pipe that is ready takes so many bytes without blocking (pipe(7), PIPE_BUF), and
/// the agent must never block in a write: it has signals to heed.
const CHUNK: usize = 4096;
/// How many chunks are passed on before other things are looked at.
const CHUNKS: usize = 64;

/// Passes one stream on. While nobody takes what was read, nothing more is read: the command then waits, as it would
/// without the agent.
#[derive(Debug)]
pub struct Pump {
    /// The command's end of life closes it.
    source: Option<OwnedFd>,
    /// One that is broken takes nothing any more; what comes is still read, for the report.
    sink: Option<BorrowedFd<'static>>,
    buffer: Box<[u8; CHUNK]>,
    /// The part of the buffer that was read and not yet written.
    pending: std::ops::Range<usize>,
}

impl Pump {
    /// From a pipe to one of the agent's own streams.
    ///
    /// # Errors
    /// The pipe can't be made non-blocking.
    pub fn new(source: OwnedFd, sink: BorrowedFd<'static>) -> rustix::io::Result<Pump> {
        ioctl_fionbio(&source, true)?;
        Ok(Pump { source: Some(source), sink: Some(sink), buffer: Box::new([0; CHUNK]), pending: 0..0 })
    }

    /// What to wait for.
    pub fn interest(&self) -> Option<PollFd<'_>> {
        match (&self.source, self.sink) {
            (_, Some(sink)) if !self.pending.is_empty() => Some(PollFd::from_borrowed_fd(sink, PollFlags::OUT)),
            (Some(source), _) => Some(PollFd::new(source, PollFlags::IN)),
            (None, _) => None,
        }
    }

    /// Passes on what there is, without blocking.
    pub fn turn(&mut self, tail: &mut Tail) {
        for _ in 0..CHUNKS {
            if self.pending.is_empty() && !self.read(tail) || !self.write(Duration::ZERO) {
                break;
            }
        }
    }

    /// Passes on the rest of a command that has ended, and waits for a slow reader until the deadline. The report gets
    /// everything in any case.
    pub fn finish(&mut self, tail: &mut Tail, deadline: Instant) {
        // The pipe holds no more than it can, unless somebody who is no descendant of the command writes to it.
        for _ in 0..1024 {
            if !self.pending.is_empty() && !self.write(deadline.saturating_duration_since(Instant::now())) {
                self.pending = 0..0;
                self.sink = None;
            }
            if self.pending.is_empty() && !self.read(tail) {
                break;
            }
        }
        self.source = None;
    }

    /// Reads a chunk; `false` if there is none.
    fn read(&mut self, tail: &mut Tail) -> bool {
        let Some(source) = &self.source else { return false };
        match read(source, &mut self.buffer[..]) {
            Ok(0) => self.source = None,
            Ok(length) => {
                tail.push(&self.buffer[..length]);
                self.pending = 0..length;
                return true;
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.source = None,
        }
        false
    }

    /// Writes what was read; `false` if the reader does not take it within that time.
    fn write(&mut self, patience: Duration) -> bool {
        let Some(sink) = self.sink else {
            self.pending = 0..0;
            return true;
        };
        let mut ready = [PollFd::from_borrowed_fd(sink, PollFlags::OUT)];
        let patience = Timespec::try_from(patience).unwrap_or_default();
        if !poll(&mut ready, Some(&patience)).is_ok_and(|ready| ready > 0) {
            return false;
        }
        match write(sink.as_fd(), &self.buffer[self.pending.clone()]) {
            Ok(length) => self.pending.start += length,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.sink = None,
        }
        true
    }
}
