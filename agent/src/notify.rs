//! Unix signals to the agent, as something to poll.

use std::io::{self, IsTerminal, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::low_level::pipe;

/// SIGRTMIN+3, by its number in glibc: systemd's own stop signal.
const SIGRTMIN_3: i32 = 37;

/// What the runtime may send to stop a container: it is the *app image's* STOPSIGNAL, and there are images with each of
/// these. PID 1 hears none of them without a handler. The command gets SIGTERM for all of them: the image chose its
/// signal for its server, and a migration tool is another program.
const STOP: [i32; 7] = [SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGRTMIN_3];

/// The signals that came.
#[derive(Debug)]
pub struct Notices {
    stop: UnixStream,
    child: UnixStream,
}

impl Notices {
    /// Handles the signals from now on. A command inherits neither handlers nor a mask.
    ///
    /// # Errors
    /// Those of making sockets and of sigaction(2).
    pub fn register() -> io::Result<Notices> {
        let (stop, raise_stop) = UnixStream::pair()?;
        let (child, raise_child) = UnixStream::pair()?;
        // With a terminal, SIGWINCH says that its size changed. Without one it is the stop signal of httpd's image.
        let winch = (!io::stdin().is_terminal()).then_some(SIGWINCH);
        for signal in STOP.into_iter().chain(winch) {
            pipe::register(signal, raise_stop.try_clone()?)?;
        }
        pipe::register(SIGCHLD, raise_child)?;
        stop.set_nonblocking(true)?;
        child.set_nonblocking(true)?;
        Ok(Notices { stop, child })
    }

    /// Becomes readable when the agent is asked to stop.
    pub fn stop(&self) -> BorrowedFd<'_> {
        self.stop.as_fd()
    }

    /// Becomes readable when a child ended.
    pub fn child(&self) -> BorrowedFd<'_> {
        self.child.as_fd()
    }

    /// Whether the agent was asked to stop since this was called last.
    pub fn take_stop(&self) -> bool {
        drain(&self.stop)
    }

    /// Forgets that children ended: call it before reaping them.
    pub fn take_child(&self) {
        drain(&self.child);
    }
}

fn drain(mut stream: &UnixStream) -> bool {
    let mut any = false;
    while matches!(stream.read(&mut [0; 64]), Ok(1..)) {
        any = true;
    }
    any
}
