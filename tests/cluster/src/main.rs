//! `testcluster`: a cluster from the command line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use clap::{Parser, Subcommand, ValueEnum};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use testcluster::progress::step;
use testcluster::{Cluster, Error, Options, Profile, Result, certmanager, default_folder, running, tools};

/// A real Kubernetes on this machine, built from package registries.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Start a cluster; it stays up when this command ends.
    Up {
        #[command(flatten)]
        name: Name,
        /// How much of a Kubernetes.
        #[arg(long, value_enum, default_value = "node")]
        profile: Kind,
        /// How many nodes.
        #[arg(long, default_value_t = 1)]
        nodes: usize,
        /// With cert-manager.
        #[arg(long)]
        cert_manager: bool,
        /// Let the API server write an audit log.
        #[arg(long)]
        audit: bool,
        /// Let etcd wait for the disk.
        #[arg(long)]
        durable: bool,
        /// Stay in the foreground, and end the cluster at Ctrl-C.
        #[arg(long)]
        foreground: bool,
    },
    /// End a cluster and leave nothing behind.
    Down {
        #[command(flatten)]
        name: Name,
        /// End every cluster.
        #[arg(long, conflicts_with = "name")]
        all: bool,
    },
    /// Print the path of the kubeconfig: export KUBECONFIG=$(testcluster kubeconfig)
    Kubeconfig {
        #[command(flatten)]
        name: Name,
    },
    /// Give an image archive to every node.
    Load {
        #[command(flatten)]
        name: Name,
        /// An OCI layout in a tar archive.
        image: PathBuf,
    },
    /// Run kubectl as administrator.
    Kubectl {
        #[command(flatten)]
        name: Name,
        /// Its arguments, after `--`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Print a component's log, or list the logs that there are.
    Logs {
        #[command(flatten)]
        name: Name,
        /// Such as kube-apiserver or kubelet-0.
        component: Option<String>,
    },
    /// Build every program that a cluster may need.
    Tools {
        /// Helm as well.
        #[arg(long)]
        helm: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Name {
    /// The cluster's name.
    #[arg(long, default_value = "dev")]
    name: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// etcd, API server and controllers.
    Api,
    /// Everything.
    Node,
}

fn main() -> ExitCode {
    match run(Arguments::parse().action) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("testcluster: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(action: Action) -> Result<()> {
    match action {
        Action::Up { name: Name { name }, profile, nodes, cert_manager, audit, durable, foreground } => {
            let profile = match profile {
                Kind::Api => Profile::Api,
                Kind::Node => Profile::Node { nodes },
            };
            let mut options = Options::new(name, profile);
            (options.audit, options.durable) = (audit, durable);
            up(options, cert_manager, foreground)
        }
        Action::Down { all: true, .. } => {
            let folder = default_folder()?;
            running(&folder).iter().try_for_each(|name| down(&folder, name))
        }
        Action::Down { name: Name { name }, .. } => down(&default_folder()?, &name),
        Action::Kubeconfig { name: Name { name } } => {
            println!("{}", Cluster::attach(&name)?.kubeconfig().display());
            Ok(())
        }
        Action::Load { name: Name { name }, image } => Cluster::attach(&name)?.load_image(&image),
        Action::Kubectl { name: Name { name }, arguments } => kubectl(&Cluster::attach(&name)?, &arguments),
        Action::Logs { name: Name { name }, component } => logs(&name, component.as_deref()),
        Action::Tools { helm } => tools::build_all(helm),
    }
}

fn up(options: Options, cert_manager: bool, foreground: bool) -> Result<()> {
    let interruption = Interruption::watch()?;
    let booted = Cluster::boot(options).and_then(|cluster| {
        if cert_manager {
            certmanager::install(&cluster)?;
        }
        Ok(cluster)
    });
    // What was pulled away under a boot makes it fail, which is not the news.
    let cluster = booted.inspect_err(|_| interruption.exit_if_any())?;
    eprintln!("export KUBECONFIG={}", cluster.kubeconfig().display());
    if foreground {
        step("press Ctrl-C to end it");
        interruption.wait();
        return Ok(());
    }
    interruption.ignore();
    cluster.stay()
}

/// While a cluster boots and in the foreground, a signal ends what was started so far.
struct Interruption {
    seen: Arc<AtomicBool>,
    handle: Handle,
    ending: JoinHandle<()>,
}

impl Interruption {
    fn watch() -> Result<Self> {
        let signals = Signals::new([SIGINT, SIGTERM, SIGHUP]);
        let mut signals = signals.map_err(|error| Error::Invalid(format!("signals can't be caught: {error}")))?;
        let (handle, seen) = (signals.handle(), Arc::new(AtomicBool::new(false)));
        let shared = Arc::clone(&seen);
        let ending = thread::spawn(move || {
            if signals.forever().next().is_none() {
                return;
            }
            shared.store(true, Ordering::SeqCst);
            step("interrupted: ending what was started");
            if let Err(error) = default_folder().and_then(|folder| Cluster::end_own(&folder)) {
                eprintln!("testcluster: {error}");
            }
            std::process::exit(130);
        });
        Ok(Self { seen, handle, ending })
    }

    fn exit_if_any(&self) {
        while self.seen.load(Ordering::SeqCst) {
            thread::park();
        }
    }

    fn wait(self) {
        let _ = self.ending.join();
    }

    fn ignore(self) {
        self.handle.close();
        let _ = self.ending.join();
    }
}

fn down(folder: &Path, name: &str) -> Result<()> {
    if Cluster::end(folder, name)? {
        step(format!("cluster {name} has ended"));
    } else {
        step(format!("no cluster called {name} is up"));
    }
    Ok(())
}

fn kubectl(cluster: &Cluster, arguments: &[String]) -> Result<()> {
    use std::os::unix::process::CommandExt;
    let error = cluster.kubectl_command().args(arguments).exec();
    Err(Error::Invalid(format!("kubectl can't be run: {error}")))
}

fn logs(name: &str, component: Option<&str>) -> Result<()> {
    let folder = default_folder()?.join(name).join("logs");
    let read = |path: &Path, error: std::io::Error| Error::Invalid(format!("{}: {error}", path.display()));
    if let Some(component) = component {
        let path = folder.join(format!("{component}.log"));
        let mut file = std::fs::File::open(&path).map_err(|error| read(&path, error))?;
        // Whoever reads it may stop before its end.
        let _ = std::io::copy(&mut file, &mut std::io::stdout());
        return Ok(());
    }
    let mut names: Vec<_> = std::fs::read_dir(&folder)
        .map_err(|error| read(&folder, error))?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".log").map(str::to_owned))
        .collect();
    names.sort();
    println!("{}", names.join("\n"));
    Ok(())
}
