//! One pod on its node: its containers one after another, from the first to the last word that is said of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use migration_gate_agent::machine::Input;
use migration_gate_agent::signal::News;
use migration_gate_contract::{Outcome, Report, Verdict, pod};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::House;
use super::process::{ContainerEnd, Disk, Process, Site};
use super::said::{self, Said, Status};
use crate::dice::Dice;
use crate::life::forged_attempt;
use crate::script::{Fate, Script};
use crate::witness::facts::{Pod, agent_container};
use crate::witness::{Run, Truth};

/// The back-off before an init container that failed again is started again; a kubelet's own is five times as long.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(20));

/// What a pod's worker hears.
#[derive(Clone, Debug)]
pub enum Word {
    /// A version of its object.
    Seen(Arc<Value>),
    /// The object is gone.
    Gone,
    /// Somebody kills the agent's container.
    KillContainer {
        /// The runtime forgets that there was one.
        forgotten: bool,
    },
}

/// Where the pod is in its life.
enum Stage {
    /// Until then the containers before the agent's do their work.
    Installing(Instant),
    /// The agent's container was started; until then the agent has not looked around.
    Starting(Instant),
    /// The agent runs.
    Running(Box<Process>),
    /// The agent's container is started again then.
    BackingOff(Instant),
    /// The application's containers run.
    App,
    /// Until then the application's containers end.
    Ending(Instant),
    /// Nothing runs any more, and nothing ever will.
    Over,
}

/// One pod on its node.
pub struct Worker {
    house: Arc<House>,
    dice: Dice,
    object: Arc<Value>,
    facts: Pod,
    agent: Option<String>,
    disk: Disk,
    stage: Stage,
    /// What is said of the agent's container.
    state: Value,
    last_state: Value,
    restarts: u32,
    /// What the signal volume shows, and in which version that stood.
    shown: (News, u64),
    coming: Option<(Instant, News, u64)>,
    /// When the grace period is over.
    kill_at: Option<Instant>,
    leaving: bool,
    gone: bool,
    words: watch::Sender<Said>,
    said: Option<Value>,
}

impl Worker {
    /// A new pod on this node.
    pub fn new(house: Arc<House>, object: Arc<Value>, words: watch::Sender<Said>) -> Worker {
        let facts = Pod::of(&object);
        let mut dice = Dice::named(house.seed, &facts.key);
        let agent = agent_container(&object).and_then(|container| container["name"].as_str()).map(str::to_owned);
        let install = Duration::from_millis(dice.within(20..=200));
        Worker {
            shown: (news_of(&facts), facts.at),
            house,
            dice,
            object,
            facts,
            agent,
            disk: Disk::empty(),
            stage: Stage::Installing(Instant::now() + install),
            state: json!({ "waiting": { "reason": "PodInitializing" } }),
            last_state: Value::Null,
            restarts: 0,
            coming: None,
            kill_at: None,
            leaving: false,
            gone: false,
            words,
            said: None,
        }
    }

    /// Its whole life.
    pub async fn live(mut self, mut heard: mpsc::UnboundedReceiver<Word>) {
        while !matches!(self.stage, Stage::Over) {
            // A moment that nothing is due at comes never.
            let due = self.due_at().unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            tokio::select! {
                word = heard.recv() => match word {
                    Some(word) => self.hear(word),
                    // The node is gone.
                    None => return,
                },
                () = tokio::time::sleep_until(due.into()) => {}
            }
            self.turn();
            self.say();
        }
        // Whoever publishes ends after its last word; until then the object may still change.
        while !self.gone {
            self.gone = !matches!(heard.recv().await, Some(Word::Seen(_) | Word::KillContainer { .. }));
        }
    }

    fn due_at(&self) -> Option<Instant> {
        let stage = match &self.stage {
            Stage::Installing(at) | Stage::Starting(at) | Stage::BackingOff(at) | Stage::Ending(at) => Some(*at),
            Stage::Running(process) => process.due_at(),
            Stage::App | Stage::Over => None,
        };
        [stage, self.coming.as_ref().map(|(at, ..)| *at), self.kill_at].into_iter().flatten().min()
    }

    fn hear(&mut self, word: Word) {
        let now = Instant::now();
        match word {
            Word::Seen(object) => {
                self.facts = Pod::of(&object);
                let news = news_of(&self.facts);
                let newest = self.coming.as_ref().map_or(self.shown.0, |(_, news, _)| *news);
                if news != newest {
                    // 0.13 to 0.19 s were seen on a real node; a busy one is slower.
                    let late = Duration::from_millis(self.dice.within(80..=300));
                    self.coming = Some((now + late, news, self.facts.at));
                }
                self.object = object;
                if self.facts.deleting {
                    let grace = self.object["metadata"]["deletionGracePeriodSeconds"].as_u64().unwrap_or(30);
                    self.leave(Duration::from_secs(grace.max(1)), now);
                }
            }
            Word::Gone => {
                self.gone = true;
                // Nobody says how patient to be: the pod's own grace period is left.
                let grace = self.object["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap_or(30);
                self.leave(Duration::from_secs(grace.max(1)), now);
            }
            Word::KillContainer { forgotten } => {
                if let Stage::Running(process) = &mut self.stage {
                    process.kill(forgotten, &mut Here { house: &self.house, pod: &self.facts, object: &self.object });
                }
            }
        }
    }

    /// The pod is to end. Asked again, with less time, it has less time.
    fn leave(&mut self, grace: Duration, now: Instant) {
        let kill_at = now + grace;
        self.kill_at = Some(self.kill_at.map_or(kill_at, |before| before.min(kill_at)));
        if std::mem::replace(&mut self.leaving, true) {
            return;
        }
        match &mut self.stage {
            Stage::Running(process) => {
                let mut here = Here { house: &self.house, pod: &self.facts, object: &self.object };
                process.hear(Input::StopRequested, &mut self.disk, &mut here);
            }
            Stage::App => {
                let end = Duration::from_millis(self.dice.within(20..=200));
                self.stage = Stage::Ending(now + end);
            }
            Stage::Starting(_) => {
                self.state = terminated(143, "", &self.container());
                self.stage = Stage::Over;
            }
            Stage::Installing(_) | Stage::BackingOff(_) => {
                if self.state["terminated"].is_null() {
                    // A container that was never started is reported as ended all the same, without an ID.
                    self.state = json!({ "terminated": { "exitCode": 137, "reason": "ContainerStatusUnknown",
                        "message": "The container could not be located when the pod was terminated" } });
                }
                self.stage = Stage::Over;
            }
            Stage::Ending(_) | Stage::Over => {}
        }
    }

    fn turn(&mut self) {
        let now = Instant::now();
        if let Some((_, news, at)) = self.coming.take_if(|(at, ..)| *at <= now) {
            self.shown = (news, at);
            if let Stage::Running(process) = &mut self.stage {
                let mut here = Here { house: &self.house, pod: &self.facts, object: &self.object };
                process.hear(Input::Seen(news), &mut self.disk, &mut here);
            }
        }
        match &mut self.stage {
            Stage::Installing(at) if *at <= now => match self.agent {
                Some(_) => self.start_agent(now),
                None => self.start_app(),
            },
            Stage::BackingOff(at) if *at <= now => {
                if !self.state["terminated"].is_null() {
                    self.last_state = self.state.clone();
                }
                self.restarts += 1;
                self.start_agent(now);
            }
            Stage::Starting(at) if *at <= now => match forged_attempt(&self.object) {
                Some(attempt) => self.forge(attempt),
                None => {
                    let mut here = Here { house: &self.house, pod: &self.facts, object: &self.object };
                    let process = Process::start(&self.facts.uid, &mut self.disk, self.shown.0, &mut here);
                    self.stage = Stage::Running(Box::new(process));
                }
            },
            Stage::Ending(at) if *at <= now => self.stage = Stage::Over,
            _ => {}
        }
        if let Stage::Running(process) = &mut self.stage {
            let mut here = Here { house: &self.house, pod: &self.facts, object: &self.object };
            process.turn(now, &mut self.disk, &mut here);
            if self.kill_at.is_some_and(|at| at <= now) {
                process.kill(false, &mut here);
            }
        }
        self.kill_at.take_if(|at| *at <= now);
        self.see_the_end(now);
        self.house.note(&self.facts, matches!(self.stage, Stage::Over));
    }

    /// The agent's container may have ended.
    fn see_the_end(&mut self, now: Instant) {
        let Stage::Running(process) = &self.stage else { return };
        let Some(over) = process.over else { return };
        let message = process.message().to_owned();
        match over {
            ContainerEnd::Exited(code) => self.state = terminated(code, &message, &self.container()),
            ContainerEnd::Killed { forgotten: false } => self.state = terminated(137, &message, &self.container()),
            ContainerEnd::Killed { forgotten: true } => {
                // What is reported of it, too.
                self.state = json!({ "waiting": { "reason": "PodInitializing" } });
                self.last_state = Value::Null;
            }
        }
        self.stage = match over {
            _ if self.leaving => Stage::Over,
            ContainerEnd::Exited(0) => return self.start_app(),
            _ => {
                // A container that failed once is started again at once.
                let doublings = self.restarts.saturating_sub(1).min(8);
                let wait =
                    if self.restarts == 0 { Duration::ZERO } else { (BACKOFF.0 * 2u32.pow(doublings)).min(BACKOFF.1) };
                Stage::BackingOff(now + wait + Duration::from_millis(self.dice.within(50..=150)))
            }
        };
    }

    fn start_agent(&mut self, now: Instant) {
        self.state = json!({ "running": { "startedAt": said::now() } });
        // The kubelet may say so before the agent has looked around for the first time.
        let late = if self.dice.chance(2) { 600 } else { self.dice.within(0..=40) };
        self.stage = Stage::Starting(now + Duration::from_millis(late));
    }

    fn start_app(&mut self) {
        self.stage = Stage::App;
        if self.agent.is_some() {
            let passed_at = self.shown.0.opened.then_some(self.shown.1);
            if forged_attempt(&self.object).is_none() {
                self.house.witness.books().app_started(&self.facts, passed_at);
            }
        }
    }

    /// A container that somebody else brought along says whatever it likes.
    fn forge(&mut self, attempt: u32) {
        let (pod_uid, outcome) = (self.facts.uid.clone(), Outcome::Succeeded);
        let verdict =
            Verdict { attempt, pod_uid, outcome, exit_code: Some(0), signal: None, start: Some(1), end: Some(2) };
        let tail = migration_gate_agent::report::Tail::default();
        let message = migration_gate_agent::report::compose(&Report::Verdict(verdict), &tail);
        self.state = terminated(0, &message, &self.container());
        self.start_app();
    }

    fn container(&self) -> String {
        format!("containerd://{}-{}", self.facts.uid, self.restarts)
    }

    /// Says what there is to say, if it is news.
    fn say(&mut self) {
        let over = matches!(self.stage, Stage::Over);
        let names = |list: &str| -> Vec<String> {
            let list = self.object["spec"][list].as_array().map(Vec::as_slice).unwrap_or_default();
            list.iter().filter_map(|container| container["name"].as_str()).map(str::to_owned).collect()
        };
        let running = matches!(self.stage, Stage::App);
        let passed_init = running || (over && self.state["terminated"]["exitCode"] == 0);
        let init = names("initContainers").into_iter().map(|name| {
            let status = if Some(&name) == self.agent.as_ref() {
                json!({ "state": self.state, "lastState": self.last_state, "restartCount": self.restarts, "ready": passed_init })
            } else {
                let done = json!({ "terminated": { "exitCode": 0, "reason": "Completed", "containerID": "containerd://first" } });
                json!({ "state": done, "lastState": Value::Null, "restartCount": 0, "ready": true })
            };
            (name, status)
        });
        let phase = match self.stage {
            Stage::App | Stage::Ending(_) => "Running",
            Stage::Over if passed_init || self.agent.is_none() => "Succeeded",
            Stage::Over => "Failed",
            _ => "Pending",
        };
        if matches!(self.stage, Stage::Installing(_)) {
            return;
        }
        let ready = self.facts.gate_true || !said::has_gate(&self.object);
        let status = Status { phase, init: init.collect(), apps: names("containers"), running, ready };
        // Times alone are no news.
        let essence = json!([phase, self.state, self.last_state, self.restarts, running, ready]);
        if self.said.as_ref() == Some(&essence) {
            return;
        }
        self.said = Some(essence);
        self.words.send_replace(Said { status: Some(Arc::new(status.body())), last: over });
    }
}

/// Where an agent of this pod runs.
struct Here<'a> {
    house: &'a House,
    pod: &'a Pod,
    object: &'a Value,
}

impl Site for Here<'_> {
    fn begin(&mut self, attempt: u32) -> (Fate, String) {
        let (house, pod) = (self.house, self.pod);
        let number = house.count_run(pod);
        let fate = script_of(self.object).and_then(|script| script.run(number)).unwrap_or(house.usual);
        let mark = format!("run {} of {} in {}: {fate}", number + 1, pod.fingerprint, pod.uid);
        let mut books = house.witness.books();
        books.began(Run {
            pod_uid: pod.uid.clone(),
            pod: pod.key.clone(),
            gate: pod.gate.clone().unwrap_or_default(),
            app: pod.app.clone(),
            fingerprint: pod.fingerprint.clone(),
            attempt,
            began: house.chronicle.now(),
            ended: None,
            mark: mark.clone(),
        });
        drop(books);
        house.set_running(&pod.uid, Some(attempt));
        (fate, mark)
    }

    fn end(&mut self, truth: Truth) {
        self.house.set_running(&self.pod.uid, None);
        self.house.witness.books().ended(&self.pod.uid, truth);
    }
}

/// How the commands of a pod go.
fn script_of(object: &Value) -> Option<Script> {
    let arguments = agent_container(object)?["args"].as_array()?;
    let words = arguments.iter().filter_map(Value::as_str).map(str::to_owned);
    let command: Vec<String> = words.skip_while(|word| word != pod::COMMAND_SEPARATOR).skip(1).collect();
    Script::of(&command)
}

/// The signal volume of a pod with these annotations.
fn news_of(pod: &Pod) -> News {
    News::for_pod(&pod.uid, pod.signal.as_ref(), pod.opened.as_ref())
}

fn terminated(code: u8, message: &str, container: &str) -> Value {
    let now = said::now();
    json!({ "terminated": {
        "exitCode": code, "reason": if code == 0 { "Completed" } else { "Error" }, "message": message,
        "containerID": container, "startedAt": now, "finishedAt": now,
    } })
}
