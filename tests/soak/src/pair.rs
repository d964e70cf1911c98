//! The two controllers, and what the life does to them and to the API server.

use std::sync::Arc;
use std::time::Duration;

use testcluster::Cluster;

use crate::api::Api;
use crate::chronicle::Chronicle;
use crate::install::SYSTEM;
use crate::life::act::Disturbance;
use crate::processes::{Process, Recipe, Usage};
use crate::witness::Witness;
use crate::witness::blame::Promise;
use crate::{Error, Result};

/// Until one that was killed is started again, as a kubelet would after its first failure.
const AGAIN: Duration = Duration::from_secs(2);
/// How long one may take that is asked to end: its pod's grace period.
const END: Duration = Duration::from_secs(30);
/// How long the API server may take to come back.
const API: Duration = Duration::from_secs(600);

/// Two controllers.
pub struct Pair {
    recipe: Recipe,
    slots: [Option<Process>; 2],
    started: u32,
    cluster: Arc<Cluster>,
    administrator: Api,
    witness: Witness,
    chronicle: Chronicle,
}

impl Pair {
    /// Starts both.
    ///
    /// # Errors
    /// When one can't be started.
    pub fn start(
        recipe: Recipe,
        cluster: Arc<Cluster>,
        administrator: Api,
        witness: Witness,
        chronicle: Chronicle,
    ) -> Result<Pair> {
        let slots = [None, None];
        let mut pair = Pair { recipe, slots, started: 0, cluster, administrator, witness, chronicle };
        (0..2).try_for_each(|slot| pair.fill(slot))?;
        Ok(pair)
    }

    fn fill(&mut self, slot: usize) -> Result<()> {
        self.started += 1;
        let identity = format!("controller-{}", self.started);
        self.chronicle.note([""; 0], format!("{identity} is started"));
        self.slots[slot] = Some(self.recipe.start(&identity)?);
        Ok(())
    }

    /// How many were started in all.
    #[must_use]
    pub fn started(&self) -> u32 {
        self.started
    }

    /// What each uses.
    ///
    /// # Errors
    /// When the system doesn't say.
    pub fn usage(&self) -> Result<Vec<Usage>> {
        self.slots.iter().flatten().map(Process::usage).collect()
    }

    /// One that ended although nobody asked it to is a broken promise, and is started again.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn look(&mut self) -> Result<()> {
        for slot in 0..self.slots.len() {
            if let Some(one) = self.slots[slot].as_ref().filter(|one| !one.runs()) {
                let why = format!("{} ended by itself; {}", one.name, one.last_words());
                one.kill()?;
                self.witness.books().blame(Promise::Progress, vec![format!("controller {slot}")], why);
                self.fill(slot)?;
            }
        }
        Ok(())
    }

    /// The slot of the one that has the Lease; the first, if nobody has.
    async fn leader(&self) -> usize {
        let path = format!("/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/migration-gate-controller");
        let lease = self.administrator.patiently().get(&path).await.unwrap_or_default();
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        let leads = |slot: &Option<Process>| slot.as_ref().is_some_and(|one| one.name == holder);
        self.slots.iter().position(leads).unwrap_or(0)
    }

    /// Lets something happen, and waits until that is over.
    ///
    /// # Errors
    /// When what was ended can't be started again.
    pub async fn disturb(&mut self, disturbance: Disturbance) -> Result<()> {
        let from = self.chronicle.now();
        let leader = self.leader().await;
        match disturbance {
            Disturbance::KillLeader => self.kill(leader).await?,
            Disturbance::KillOther => self.kill(1 - leader).await?,
            Disturbance::StopLeader(time) => {
                if let Some(one) = &self.slots[leader] {
                    one.stop();
                    tokio::time::sleep(time).await;
                    one.go_on();
                }
            }
            Disturbance::EndLeader => {
                if let Some(one) = self.slots[leader].take()
                    && !one.end(END).await?
                {
                    let what = format!("{} was asked to end, and did not within {END:?}", one.name);
                    self.witness.books().blame(Promise::Progress, vec![one.name.clone()], what);
                }
                self.fill(leader)?;
            }
            Disturbance::RestartApi => self.restart_api().await?,
        }
        let until = self.chronicle.now();
        self.witness.books().disturbed(from, until);
        self.chronicle.note([""; 0], format!("{disturbance:?} is over, after {:.1} s", (until - from).as_secs_f64()));
        Ok(())
    }

    async fn kill(&mut self, slot: usize) -> Result<()> {
        if let Some(one) = self.slots[slot].take() {
            self.chronicle.note([""; 0], format!("{} is killed", one.name));
            one.kill()?;
        }
        tokio::time::sleep(AGAIN).await;
        self.fill(slot)
    }

    async fn restart_api(&self) -> Result<()> {
        let cluster = Arc::clone(&self.cluster);
        let restarted = tokio::task::spawn_blocking(move || {
            cluster.component("kube-apiserver")?.restart()?;
            cluster.wait_for_api(API)
        });
        Ok(restarted.await.map_err(|error| Error::Unusable(error.to_string()))??)
    }

    /// Ends both.
    ///
    /// # Errors
    /// When one can't be waited for.
    pub async fn end(mut self) -> Result<()> {
        for slot in &mut self.slots {
            if let Some(one) = slot.take() {
                one.end(END).await?;
            }
        }
        Ok(())
    }
}
