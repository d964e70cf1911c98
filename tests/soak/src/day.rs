//! The whole: a cluster, nodes, people, controllers and the witness, phase after phase.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use testcluster::Cluster;
use tokio::task::JoinSet;

use crate::audit::{self, Audit};
use crate::chronicle::Chronicle;
use crate::install::Site;
use crate::kubelet::{House, Node};
use crate::life::act::Act;
use crate::life::copies::Copier;
use crate::life::operator;
use crate::life::people::People;
use crate::life::plan::{Plan, Step};
use crate::life::sizes::Sizes;
use crate::pair::Pair;
use crate::report::{Phase, Report};
use crate::watching;
use crate::witness::{Object, Witness};
use crate::{Error, Result, rest, system};

/// What life is to be lived.
#[derive(Clone, Debug)]
pub struct Arguments {
    /// For about how long: a phase that began is not cut short.
    pub seconds: u64,
    /// From which seed.
    pub seed: u64,
    /// The program under test.
    pub program: PathBuf,
    /// The cluster's name: clusters with different names run side by side.
    pub name: String,
    /// What is told with one of these words does not happen.
    pub without: Vec<String>,
    /// The most workloads that a group has at first, if that matters.
    pub largest: Option<u64>,
    /// Whether to go on after a promise was seen broken.
    pub keep_going: bool,
}

/// Lives it.
///
/// # Errors
/// When it can't be lived at all. What was seen broken is in the report.
pub async fn live(arguments: &Arguments) -> Result<Report> {
    let (seed, seconds) = (arguments.seed, arguments.seconds);
    eprintln!("[soak] SEED={seed} (the same life again: make soak SEED={seed} SOAK_SECONDS={seconds})");
    let program = arguments.program.canonicalize().map_err(|error| system(&arguments.program, error))?;
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/soak").join(&arguments.name);
    std::fs::create_dir_all(&folder).map_err(|error| system(&folder, error))?;
    let folder = folder.canonicalize().map_err(|error| system(&folder, error))?;
    let file = folder.join("chronicle.log");
    let chronicle = Chronicle::in_file(&file).map_err(|error| system(&file, error))?;
    let sizes = Sizes::of(arguments.seconds).with_largest(arguments.largest);
    let namespaces = sizes.names_of_namespaces();
    let site = Site::set_up(&arguments.name, &program, &folder, &namespaces).await?;
    let mut tasks = JoinSet::new();
    let lived = lived(arguments, &chronicle, &site, &sizes, &mut tasks).await;
    tasks.shutdown().await;
    chronicle.flush();
    let mut report = lived?;
    report.chronicle = Some(file);
    if !report.is_clean() {
        site.cluster.keep_logs();
    }
    drop(site);
    let name = arguments.name.clone();
    let ended = tokio::task::spawn_blocking(move || end(&name)).await;
    if let Err(error) = ended.map_err(|error| Error::Unusable(error.to_string()))? {
        report.left_behind = Some(error.to_string());
    }
    Ok(report)
}

/// Ends what is left of a cluster. On a busy machine processes take their time to go.
fn end(name: &str) -> testcluster::Result<()> {
    const TRIES: u32 = 5;
    let folder = testcluster::default_folder()?;
    for _ in 1..TRIES {
        if Cluster::end(&folder, name).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_secs(2));
    }
    Cluster::end(&folder, name).map(drop)
}

async fn lived(
    arguments: &Arguments,
    chronicle: &Chronicle,
    site: &Site,
    sizes: &Sizes,
    tasks: &mut JoinSet<()>,
) -> Result<Report> {
    let begin = Instant::now();
    let witness = Witness::new(chronicle.clone());
    for (kind, path) in Object::ALL {
        let (witness, administrator) = (witness.clone(), site.administrator.clone());
        tasks.spawn(watching::watch(administrator, path.to_owned(), move |word| {
            witness.books().hear(kind, word);
            true
        }));
    }
    let house = House::new(witness.clone(), chronicle.clone(), arguments.seed);
    for name in sizes.names_of_nodes() {
        let node = Arc::new(Node::new(&site.cluster.kubeconfig(), &name, Arc::clone(&house)).await?);
        let same = Arc::clone(&node);
        tasks.spawn(async move { same.beat().await });
        tasks.spawn(async move { node.run().await });
    }
    let people = Arc::new(People {
        administrator: site.administrator.clone(),
        copier: Copier::new(site.copier(&sizes.names_of_namespaces()).await?),
        house,
        witness: witness.clone(),
        chronicle: chronicle.clone(),
        fingerprints: std::sync::Mutex::default(),
    });
    let evening = operator::Evening::default();
    tasks.spawn(operator::work(Arc::clone(&people), Arc::clone(&evening)));
    let pair = Pair::start(
        site.controllers.clone(),
        Arc::clone(&site.cluster),
        site.administrator.clone(),
        witness.clone(),
        chronicle.clone(),
    )?;
    let pair = Arc::new(tokio::sync::Mutex::new(pair));
    let ticking = (witness.clone(), Arc::clone(&pair), chronicle.clone());
    tasks.spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            ticking.0.books().tick();
            ticking.2.flush();
            // Whoever hurts one knows where it is.
            if let Ok(mut pair) = ticking.1.try_lock()
                && let Err(error) = pair.look()
            {
                eprintln!("[soak] a controller can't be started again: {error}");
            }
        }
    });
    let mut audit = Audit::of(site.cluster.audit_log());
    let mut plan = Plan::new(arguments.seed, sizes.clone());
    let mut phases = Vec::new();
    // Another phase begins only if there is time for it.
    while phases.is_empty() || begin.elapsed() + sizes.phase < Duration::from_secs(arguments.seconds) {
        evening.store(false, Ordering::Relaxed);
        let mut steps = plan.next_phase();
        steps.retain(|step| !arguments.without.iter().any(|word| step.act.to_string().contains(word)));
        eprintln!(
            "[soak {:8.1}s] phase {}: {} things happen",
            chronicle.now().as_secs_f64(),
            phases.len() + 1,
            steps.len()
        );
        phase(&people, &pair, &steps).await?;
        evening.store(true, Ordering::Relaxed);
        let rested = rest::wait(&witness, chronicle, &mut audit, &pair).await?;
        audit::must_have_content(&audit)?;
        let phase = Phase { number: phases.len() + 1, acts: steps.len(), evening: rested };
        eprintln!("[soak {:8.1}s] {}", chronicle.now().as_secs_f64(), phase.line());
        phases.push(phase);
        if !witness.books().blames().is_empty() && !arguments.keep_going {
            break;
        }
    }
    let started = pair.lock().await.started();
    let report = Report::of(arguments, chronicle, &witness.books(), &audit, phases, started);
    tasks.shutdown().await;
    if let Some(pair) = Arc::into_inner(pair) {
        pair.into_inner().end().await?;
    }
    Ok(report)
}

/// Lets everything happen at its time, or as soon after that as it can.
async fn phase(people: &Arc<People>, pair: &Arc<tokio::sync::Mutex<Pair>>, steps: &[Step]) -> Result<()> {
    let begin = tokio::time::Instant::now();
    let mut disturbances = JoinSet::new();
    for step in steps {
        tokio::time::sleep_until(begin + step.at).await;
        if let Act::Disturb(disturbance) = step.act {
            people.happen(&step.act).await;
            let pair = Arc::clone(pair);
            disturbances.spawn(async move { pair.lock().await.disturb(disturbance).await });
        } else {
            people.happen(&step.act).await;
        }
    }
    while let Some(ended) = disturbances.join_next().await {
        ended.map_err(|error| Error::Unusable(error.to_string()))??;
    }
    Ok(())
}
