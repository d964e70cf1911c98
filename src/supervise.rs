//! The tasks of a process, and how it ends.
//!
//! A process of ours is a handful of long-lived tasks that need each other: a webhook that no longer looks at its
//! certificate is as broken as one that no longer listens. So every task has a name and is watched by one
//! [`Supervisor`]. The first task that ends on its own ends the process, which says whose end it was and why, and the
//! kubelet starts a whole one. Nothing goes on in part.
//!
//! The orderly end is a value, [`Shutdown`], handed to every task at its start.

use std::any::Any;
use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// The wish that the process should end. All clones are the same wish, and it is never taken back.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// A wish that nobody has uttered yet.
    pub fn new() -> Shutdown {
        Shutdown::default()
    }

    /// Asks all tasks to end.
    pub fn request(&self) {
        self.0.cancel();
    }

    /// Whether the tasks have been asked to end.
    pub fn is_requested(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until the tasks are asked to end; returns at once if they were.
    pub async fn requested(&self) {
        self.0.cancelled().await;
    }

    /// Asks all tasks to end when the process receives SIGTERM (the kubelet) or SIGINT (a person at a terminal).
    ///
    /// # Errors
    /// The operating system doesn't let us listen for them.
    pub fn on_signals(&self) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = self.clone();
        tokio::spawn(async move {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            tracing::info!(signal = name, "shutting down");
            shutdown.request();
        });
        Ok(())
    }
}

/// Why the process ended although nobody asked it to.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// A task returned although it should have gone on.
    #[error("the task '{task}' ended, which it never should")]
    Returned {
        /// The task's name.
        task: &'static str,
    },
    /// A task failed.
    #[error("the task '{task}' failed: {reason}")]
    Failed {
        /// The task's name.
        task: &'static str,
        /// Its error, with all causes.
        reason: String,
    },
    /// A task panicked: a defect of ours.
    #[error("the task '{task}' panicked, which is a defect of this program: {reason}")]
    Panicked {
        /// The task's name.
        task: &'static str,
        /// What the panic said.
        reason: String,
    },
    /// After the wish to end, some tasks went on for longer than they may.
    #[error("still running {grace_seconds} s after they were asked to end: {tasks}")]
    Stuck {
        /// Their names.
        tasks: String,
        /// The seconds that they had.
        grace_seconds: u64,
    },
}

/// Watches over the tasks of a process.
#[derive(Debug)]
pub struct Supervisor {
    shutdown: Shutdown,
    tasks: JoinSet<Result<(), String>>,
    names: HashMap<Id, &'static str>,
}

impl Supervisor {
    /// A supervisor without tasks; its tasks end when `shutdown` is requested.
    pub fn new(shutdown: Shutdown) -> Supervisor {
        Supervisor { shutdown, tasks: JoinSet::new(), names: HashMap::new() }
    }

    /// The wish that ends this supervisor's tasks.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Starts a task. It may end without an error only after the shutdown was requested.
    pub fn spawn<E>(&mut self, name: &'static str, task: impl Future<Output = Result<(), E>> + Send + 'static)
    where
        E: std::error::Error + Send + 'static,
    {
        let handle = self.tasks.spawn(async move { task.await.map_err(|error| with_causes(&error)) });
        self.names.insert(handle.id(), name);
    }

    /// Waits for the end of all tasks: for the shutdown, or for the first task that ends before it, which then requests
    /// the shutdown of the others. They have `grace` to end.
    ///
    /// # Errors
    /// [`Ended`] if anything but the shutdown ended a task, or a task outlived its grace.
    pub async fn run(mut self, grace: Duration) -> Result<(), Ended> {
        let shutdown = self.shutdown.clone();
        let first = tokio::select! {
            biased;
            () = shutdown.requested() => Ok(()),
            ended = self.next_end() => match ended {
                Some((task, Ok(()))) if !shutdown.is_requested() => Err(Ended::Returned { task }),
                Some((_, end)) => end,
                None => Ok(()),
            },
        };
        if let Err(ended) = &first {
            tracing::error!(%ended, "ending the process");
        }
        self.shutdown.request();
        let rest = match tokio::time::timeout(grace, self.all_ends()).await {
            Ok(rest) => rest,
            Err(_) => {
                let mut names: Vec<_> = self.names.into_values().collect();
                names.sort_unstable();
                Err(Ended::Stuck { tasks: names.join(", "), grace_seconds: grace.as_secs() })
            }
        };
        first.and(rest)
    }

    /// The next task that ends, and how; `None` once there are no more.
    async fn next_end(&mut self) -> Option<(&'static str, Result<(), Ended>)> {
        let joined = self.tasks.join_next_with_id().await?;
        let id = joined.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let task = self.names.remove(&id).unwrap_or("unnamed");
        Some((
            task,
            match joined {
                Ok((_, Ok(()))) => Ok(()),
                Ok((_, Err(reason))) => Err(Ended::Failed { task, reason }),
                Err(error) => Err(Ended::Panicked { task, reason: join_text(error) }),
            },
        ))
    }

    /// Waits for all tasks; the first error among them, all of them logged.
    async fn all_ends(&mut self) -> Result<(), Ended> {
        let mut first = Ok(());
        while let Some((_, end)) = self.next_end().await {
            if let Err(ended) = &end {
                tracing::error!(%ended, "during shutdown");
            }
            first = first.and(end);
        }
        first
    }
}

fn join_text(error: JoinError) -> String {
    let text = error.to_string();
    let payload = error.try_into_panic().ok();
    payload.as_deref().and_then(panic_text).map(str::to_owned).unwrap_or(text)
}

/// What a panic said.
pub fn panic_text(payload: &(dyn Any + Send)) -> Option<&str> {
    payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str))
}

/// An error and its causes on one line, each cause only if the text before doesn't say it already.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        source = cause.source();
    }
    text
}

/// A task's error that holds nothing but a sentence.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Sentence(pub String);

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use std::future::pending;

    const GRACE: Duration = Duration::from_secs(5);

    async fn until(shutdown: Shutdown) -> Result<(), Infallible> {
        shutdown.requested().await;
        Ok(())
    }

    #[tokio::test]
    async fn a_task_that_returns_ends_the_process_under_its_name() {
        let shutdown = Shutdown::new();
        let mut supervisor = Supervisor::new(shutdown.clone());
        supervisor.spawn("steady", until(shutdown.clone()));
        supervisor.spawn("fickle", async { Ok::<_, Infallible>(()) });
        assert_eq!(supervisor.run(GRACE).await, Err(Ended::Returned { task: "fickle" }));
        assert!(shutdown.is_requested());
    }

    #[tokio::test]
    async fn a_failure_is_told_with_its_causes() {
        let shutdown = Shutdown::new();
        let mut supervisor = Supervisor::new(shutdown.clone());
        supervisor.spawn("steady", until(shutdown));
        supervisor.spawn("reader", async { Err(Sentence("no such file".to_owned())) });
        let ended = supervisor.run(GRACE).await.expect_err("a failure");
        assert_eq!(ended.to_string(), "the task 'reader' failed: no such file");
    }

    #[tokio::test]
    async fn a_panic_is_told_as_a_defect() {
        let mut supervisor = Supervisor::new(Shutdown::new());
        supervisor.spawn("jumpy", async {
            assert_eq!(1, 2, "sums are off");
            Ok::<_, Infallible>(())
        });
        let ended = supervisor.run(GRACE).await.expect_err("a panic");
        assert!(
            matches!(&ended, Ended::Panicked { task: "jumpy", reason } if reason.contains("sums are off")),
            "{ended}"
        );
    }

    #[tokio::test]
    async fn the_shutdown_lets_all_tasks_end() {
        let shutdown = Shutdown::new();
        let mut supervisor = Supervisor::new(shutdown.clone());
        supervisor.spawn("one", until(shutdown.clone()));
        supervisor.spawn("two", until(shutdown.clone()));
        shutdown.request();
        assert_eq!(supervisor.run(GRACE).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_ignores_the_shutdown_is_named() {
        let shutdown = Shutdown::new();
        let mut supervisor = Supervisor::new(shutdown.clone());
        supervisor.spawn("deaf", pending::<Result<(), Infallible>>());
        supervisor.spawn("polite", until(shutdown.clone()));
        shutdown.request();
        assert_eq!(supervisor.run(GRACE).await, Err(Ended::Stuck { tasks: "deaf".to_owned(), grace_seconds: 5 }));
    }
}
