//! Unix signals to the wrapper.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::{Failure, Kind};

/// The signals that are passed on, and those among them that mean an end.
pub(crate) struct Signals {
    listening: [(i32, Signal); 6],
}

const USR1: i32 = 10;
const USR2: i32 = 12;

impl Signals {
    pub(crate) fn listen() -> Result<Signals, Failure> {
        let all = || -> io::Result<Signals> {
            let listen = |kind: SignalKind| Ok::<_, io::Error>((kind.as_raw_value(), signal(kind)?));
            Ok(Signals {
                listening: [
                    listen(SignalKind::terminate())?,
                    listen(SignalKind::interrupt())?,
                    listen(SignalKind::hangup())?,
                    listen(SignalKind::quit())?,
                    listen(SignalKind::user_defined1())?,
                    listen(SignalKind::user_defined2())?,
                ],
            })
        };
        all().map_err(|error| Failure::new(Kind::System, format!("can't handle signals: {error}")))
    }

    /// The next signal.
    pub(crate) async fn next(&mut self) -> i32 {
        std::future::poll_fn(|context| {
            for (number, signal) in &mut self.listening {
                if signal.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*number);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }

    /// The next signal that asks the wrapper to end.
    pub(crate) async fn next_end(&mut self) -> i32 {
        loop {
            let number = self.next().await;
            if ends(number) {
                return number;
            }
        }
    }
}

/// Whether a signal asks a process to end.
pub(crate) fn ends(number: i32) -> bool {
    ![USR1, USR2].contains(&number)
}
