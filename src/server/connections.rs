//! The open connections of a server: how long each may take, and which goes when there are too many.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Limits;

/// What one connection is about, since when, and until when it may be.
///
/// It is written by the connection's own task alone, and read by the one that makes room for others.
#[derive(Debug)]
pub(super) struct Progress {
    limits: Limits,
    opened: Instant,
    /// Milliseconds after `opened` at which the present phase began, and at which it must be over.
    began: AtomicU64,
    deadline: AtomicU64,
    /// From a request's first byte until its answer is out.
    busy: AtomicBool,
    /// The answer is known, but perhaps not yet sent.
    answered: AtomicBool,
    /// Woken when the connection is to make room.
    evicted: Notify,
}

impl Progress {
    fn new(limits: Limits) -> Progress {
        let progress = Progress {
            limits,
            opened: Instant::now(),
            began: AtomicU64::new(0),
            deadline: AtomicU64::new(0),
            busy: AtomicBool::new(true),
            answered: AtomicBool::new(false),
            evicted: Notify::new(),
        };
        progress.begin(limits.handshake);
        progress
    }

    fn begin(&self, allowed: Duration) {
        let now = milliseconds(self.opened.elapsed());
        self.began.store(now, Ordering::Relaxed);
        self.deadline.store(now.saturating_add(milliseconds(allowed)), Ordering::Relaxed);
    }

    /// TLS is up; the first request must follow.
    pub(super) fn shaken_hands(&self) {
        self.begin(self.limits.request);
    }

    /// The handler knows the answer.
    pub(super) fn answered(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    /// Bytes came in: a request began, unless one is under way.
    fn received(&self) {
        if !self.busy.load(Ordering::Relaxed) {
            self.busy.store(true, Ordering::Relaxed);
            self.begin(self.limits.request);
        }
    }

    /// All that was written is sent: if that was an answer, the connection is idle.
    fn sent(&self) {
        if self.answered.load(Ordering::Relaxed) {
            self.answered.store(false, Ordering::Relaxed);
            self.busy.store(false, Ordering::Relaxed);
            self.begin(self.limits.idle);
        }
    }

    /// Waits until the present phase has taken too long, or the connection must make room.
    pub(super) async fn over(&self) {
        tokio::select! {
            () = self.too_late() => {}
            () = self.evicted.notified() => {}
        }
    }

    async fn too_late(&self) {
        loop {
            let deadline = self.opened + Duration::from_millis(self.deadline.load(Ordering::Relaxed));
            if deadline <= Instant::now() {
                return;
            }
            // The deadline may have moved when this ends; one timer for many requests.
            tokio::time::sleep_until(deadline).await;
        }
    }

    fn since(&self) -> Instant {
        self.opened + Duration::from_millis(self.began.load(Ordering::Relaxed))
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A connection's stream, which tells its [`Progress`] what passes.
pub(super) struct Watched<S> {
    pub(super) stream: S,
    pub(super) progress: Arc<Progress>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.progress.received();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.progress.sent();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// All open connections of one server.
#[derive(Debug)]
pub(super) struct Connections {
    limits: Limits,
    count: Gauge,
    open: Mutex<Open>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    progress: HashMap<u64, Arc<Progress>>,
}

/// A connection's place among the open ones; dropping it frees the place.
#[derive(Debug)]
pub(super) struct Place {
    connections: Arc<Connections>,
    number: u64,
    pub(super) progress: Arc<Progress>,
}

impl Connections {
    pub(super) fn new(limits: Limits, count: Gauge) -> Arc<Connections> {
        Arc::new(Connections { limits, count, open: Mutex::default(), changed: Notify::new() })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        // The map is whole after every statement, so a panic elsewhere in a holder leaves nothing half done.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place. Where all are taken, the connection that has made no progress for the longest time goes; one
    /// that is younger than [`Limits::protected`] is left alone, so this may wait.
    pub(super) async fn place(self: &Arc<Self>) -> Place {
        loop {
            let changed = self.changed.notified();
            {
                let mut open = self.open();
                if open.progress.len() < self.limits.connections {
                    let number = open.next;
                    open.next += 1;
                    let progress = Arc::new(Progress::new(self.limits));
                    open.progress.insert(number, progress.clone());
                    self.count.inc();
                    return Place { connections: self.clone(), number, progress };
                }
                let slowest = open.progress.values().min_by_key(|progress| progress.since());
                if let Some(slowest) = slowest.filter(|slowest| slowest.since().elapsed() >= self.limits.protected) {
                    slowest.evicted.notify_one();
                }
            }
            // A connection ends, or one grows old enough to be ended.
            let _ = tokio::time::timeout(self.limits.protected / 4, changed).await;
        }
    }

    /// Waits until no connection is open.
    pub(super) async fn all_closed(&self) {
        loop {
            let changed = self.changed.notified();
            if self.open().progress.is_empty() {
                return;
            }
            changed.await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open().progress.remove(&self.number);
        self.connections.count.dec();
        self.connections.changed.notify_waiters();
    }
}
