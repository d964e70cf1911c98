//! Lists that many ask for at about the same time, such as all groups of a namespace that are new: one list answers all
//! questions that were asked before it was sent.
//!
//! Why that is no later than a list of one's own: whoever asks knows something already, a version of its record, say, and
//! wants the state of the cluster at that time or later. The questions that a list answers are taken together *before* its
//! first request is built. A question that comes after that waits for the next list, even if the one under way would have
//! brought the same. The API server answers the first page from a state no older than the request (no resourceVersion is
//! given: "most recent"), and the other pages from the very state of the first, or not at all (410). So the state that an
//! answer shows is one that began after its question was asked. Source: Kubernetes API concepts, "Semantics for get and
//! list" and "Retrieving large results sets in chunks".

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, oneshot};

/// So many lists are under way at once: each holds a page of objects as text and as what was read of it.
const AT_ONCE: usize = 4;

/// Who asks what, and how it is told the answer.
type Waiting<Q, A, E> = Vec<(Q, oneshot::Sender<Result<A, E>>)>;

/// The lanes by namespace.
type Lanes<Q, A, E> = HashMap<String, Arc<Lane<Q, A, E>>>;

/// The questions of one kind.
#[derive(Debug)]
pub(super) struct Lists<Q, A, E> {
    lanes: Mutex<Lanes<Q, A, E>>,
    places: Semaphore,
}

/// The questions about one namespace.
#[derive(Debug)]
struct Lane<Q, A, E> {
    /// Those that no list under way will answer.
    waiting: Mutex<Waiting<Q, A, E>>,
    /// Whoever has this lists.
    turn: tokio::sync::Mutex<()>,
}

impl<Q, A, E> Default for Lists<Q, A, E> {
    fn default() -> Self {
        Lists { lanes: Mutex::default(), places: Semaphore::new(AT_ONCE) }
    }
}

impl<Q: Clone, A, E: Clone> Lists<Q, A, E> {
    /// Asks. `list` gets all questions that are to be answered together, and returns an answer to each, in their order.
    pub(super) async fn ask<L: Future<Output = Result<Vec<A>, E>>>(
        &self,
        namespace: &str,
        question: Q,
        list: impl Fn(Vec<Q>) -> L,
    ) -> Result<A, E> {
        let lane = self.lane(namespace);
        loop {
            let (sender, mut answer) = oneshot::channel();
            lock(&lane.waiting).push((question.clone(), sender));
            tokio::select! {
                biased;
                answer = &mut answer => match answer {
                    Ok(answer) => return answer,
                    // Who listed for us was called off.
                    Err(_) => continue,
                },
                _turn = lane.turn.lock() => match answer.try_recv() {
                    // Whoever had the turn before answered just now, or was called off.
                    Ok(answer) => return answer,
                    Err(oneshot::error::TryRecvError::Closed) => continue,
                    Err(oneshot::error::TryRecvError::Empty) => {
                        // The semaphore is never closed. Those who come meanwhile are answered, too.
                        let _place = self.places.acquire().await;
                        lane.answer(&list).await;
                    }
                },
            }
            if let Ok(answer) = answer.try_recv() {
                return answer;
            }
        }
    }

    fn lane(&self, namespace: &str) -> Arc<Lane<Q, A, E>> {
        let mut lanes = lock(&self.lanes);
        lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
        let new = || Arc::new(Lane { waiting: Mutex::default(), turn: tokio::sync::Mutex::default() });
        Arc::clone(lanes.entry(namespace.to_owned()).or_insert_with(new))
    }
}

impl<Q, A, E: Clone> Lane<Q, A, E> {
    /// Answers all that wait.
    async fn answer<L: Future<Output = Result<Vec<A>, E>>>(&self, list: impl Fn(Vec<Q>) -> L) {
        // From here on, whoever asks waits for the next list.
        let (questions, senders): (Vec<Q>, Vec<_>) = std::mem::take(&mut *lock(&self.waiting)).into_iter().unzip();
        // Who was called off meanwhile needs no answer.
        match list(questions).await {
            Ok(answers) => senders.into_iter().zip(answers).for_each(|(sender, answer)| _ = sender.send(Ok(answer))),
            Err(error) => senders.into_iter().for_each(|sender| _ = sender.send(Err(error.clone()))),
        }
    }
}

/// A panic elsewhere ends the process; until then what is here is whole, because nothing panics half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use futures::future::join_all;
    use proptest::prelude::*;
    use tokio::time::{Instant, sleep};

    use super::*;

    /// An answer: when its list was sent, and what it was asked.
    type Answer = (Instant, usize);

    #[derive(Default)]
    struct Server {
        lists: AtomicUsize,
        under_way: AtomicUsize,
        most: AtomicUsize,
    }

    /// A list may be called off.
    struct UnderWay<'a>(&'a AtomicUsize);

    impl Drop for UnderWay<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    impl Server {
        /// A list that takes so long.
        async fn list(&self, questions: Vec<usize>, takes: Duration) -> Result<Vec<Answer>, &'static str> {
            let sent = Instant::now();
            self.lists.fetch_add(1, Ordering::Relaxed);
            let under_way = UnderWay(&self.under_way);
            self.most.fetch_max(self.under_way.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            sleep(takes).await;
            drop(under_way);
            Ok(questions.into_iter().map(|question| (sent, question)).collect())
        }
    }

    const LONG: Duration = Duration::from_millis(100);

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whenever they ask, however long a list takes, and whoever is called off: each gets its own answer, of a list
        /// that was sent after it asked.
        #[test]
        fn no_answer_is_older_than_its_question(
            askers in prop::collection::vec((0..400u64, 0..3usize, prop::option::weighted(0.2, 0..200u64)), 1..60),
            takes in 1..150u64,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            runtime.expect("a runtime").block_on(async {
                let (lists, server) = (Lists::<usize, Answer, &str>::default(), Server::default());
                let asking = askers.iter().enumerate().map(|(number, (at, namespace, patience))| {
                    let (lists, server) = (&lists, &server);
                    async move {
                        sleep(Duration::from_millis(*at)).await;
                        let asked = Instant::now();
                        let list = |questions| server.list(questions, Duration::from_millis(takes));
                        let namespace = namespace.to_string();
                        let answer = lists.ask(&namespace, number, list);
                        match patience {
                            None => {
                                let (sent, question) = answer.await.expect("an answer");
                                assert!(sent >= asked && question == number, "{sent:?} {asked:?}");
                            }
                            // It is called off: the others must not notice.
                            Some(patience) => {
                                let _ = tokio::time::timeout(Duration::from_millis(*patience), answer).await;
                            }
                        }
                    }
                });
                let day = Duration::from_secs(24 * 3600);
                tokio::time::timeout(day, join_all(asking)).await.expect("nobody waits for ever");
                assert!(server.most.load(Ordering::Relaxed) <= AT_ONCE);
            });
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_together_is_answered_together() {
        let (lists, server) = (Lists::<usize, Answer, &str>::default(), Server::default());
        let start = Instant::now();
        let asking = (0..1000).map(|number| lists.ask("shop", number, |questions| server.list(questions, LONG)));
        let answers = join_all(asking).await;
        assert!(answers.iter().enumerate().all(|(number, answer)| answer.is_ok_and(|(_, own)| own == number)));
        // The first had asked alone when its list was sent.
        assert_eq!((server.lists.load(Ordering::Relaxed), start.elapsed()), (2, 2 * LONG));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_the_answer_to_all_who_asked_together_and_to_nobody_else() {
        let lists = Lists::<usize, Answer, &'static str>::default();
        let tried = AtomicUsize::new(0);
        let list = async |questions: Vec<usize>| {
            sleep(LONG).await;
            match tried.fetch_add(1, Ordering::Relaxed) {
                1 => Err("no"),
                _ => Ok(questions.into_iter().map(|question| (Instant::now(), question)).collect()),
            }
        };
        let asking = (0..10).map(|number| lists.ask("shop", number, &list));
        let answers = join_all(asking).await;
        assert!(answers[0].is_ok() && answers[1..].iter().all(|answer| *answer == Err("no")), "{answers:?}");
        assert!(lists.ask("shop", 11, &list).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_namespace_that_nobody_asks_about_takes_no_place() {
        let (lists, server) = (Lists::<usize, Answer, &str>::default(), Server::default());
        for namespace in 0..100 {
            let _ = lists.ask(&namespace.to_string(), 0, |questions| server.list(questions, LONG)).await;
        }
        assert_eq!(lock(&lists.lanes).len(), 1);
    }
}
