//! The programs that a cluster is made of, built from Go modules.
//!
//! Each module's `go.mod` and `go.sum` are part of this crate, so a build is the same everywhere. What is
//! built goes to a cache outside the tree, one folder for each state of the module: a changed version
//! is another folder, and an old one stays usable by an older checkout.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use sha2::{Digest, Sha256};

use crate::command::{self, command};
use crate::error::{At, Error, Result};
use crate::progress::step;

/// The Kubernetes version that is run.
pub const KUBERNETES_VERSION: &str = "1.36.3";

/// Names the folder that holds what was built, instead of the user's cache folder.
pub const CACHE_VARIABLE: &str = "MIGRATION_GATE_TEST_CACHE";

/// A program that can be asked for by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is called what the program is called")]
pub enum Tool {
    Etcd,
    KubeApiserver,
    KubeControllerManager,
    KubeScheduler,
    Kubelet,
    KubeProxy,
    Kubectl,
    Containerd,
    Ctr,
    CertManagerController,
    CertManagerWebhook,
    CertManagerCainjector,
    Goose,
    Helm,
    WebhookPeer,
}

/// Where the program is; it is built first when this is the first time that anyone asks.
///
/// # Errors
/// When it can't be built: no Go, no network, no space.
pub fn path(tool: Tool) -> Result<PathBuf> {
    let (module, file) = tool.place();
    Ok(module.build()?.join(file))
}

/// Builds everything that a cluster may need, for a machine that is being prepared.
///
/// # Errors
/// At the first module that can't be built.
pub fn build_all(with_helm: bool) -> Result<()> {
    for module in [&KUBERNETES, &CONTAINERD, &CERT_MANAGER, &GOOSE] {
        module.build()?;
    }
    if with_helm {
        HELM.build()?;
    }
    Ok(())
}

impl Tool {
    fn place(self) -> (&'static Module, &'static str) {
        match self {
            Tool::Etcd => (&KUBERNETES, "etcd"),
            Tool::KubeApiserver => (&KUBERNETES, "kube-apiserver"),
            Tool::KubeControllerManager => (&KUBERNETES, "kube-controller-manager"),
            Tool::KubeScheduler => (&KUBERNETES, "kube-scheduler"),
            Tool::Kubelet => (&KUBERNETES, "kubelet"),
            Tool::KubeProxy => (&KUBERNETES, "kube-proxy"),
            Tool::Kubectl => (&KUBERNETES, "kubectl"),
            Tool::Containerd => (&CONTAINERD, "containerd"),
            Tool::Ctr => (&CONTAINERD, "ctr"),
            Tool::CertManagerController => (&CERT_MANAGER, "controller"),
            Tool::CertManagerWebhook => (&CERT_MANAGER, "webhook"),
            Tool::CertManagerCainjector => (&CERT_MANAGER, "cainjector"),
            Tool::Goose => (&GOOSE, "goose"),
            Tool::Helm => (&HELM, "helm"),
            Tool::WebhookPeer => (&PEERS, "webhook-peer"),
        }
    }
}

/// cert-manager's definitions of its resources, in one YAML file; they come with its module.
pub(crate) fn cert_manager_definitions() -> Result<PathBuf> {
    Ok(CERT_MANAGER.build()?.join(DEFINITIONS))
}

/// What a module's build gives.
enum Builds {
    /// The module's own main package: one program that is called by each of these names.
    OneWithNames(&'static [&'static str]),
    /// The module's `tool` lines, one program each.
    Tools,
}

/// A Go module of ours that names what to build at which version.
struct Module {
    name: &'static str,
    version: &'static str,
    sources: &'static [(&'static str, &'static str)],
    builds: Builds,
    link_flags: &'static str,
    tags: &'static str,
    /// What a cold build on two cores takes, so that a person knows what to expect.
    minutes: &'static str,
}

macro_rules! sources {
    ($folder:literal: $($file:literal),+) => {
        &[$(($file, include_str!(concat!("../modules/", $folder, "/", $file)))),+]
    };
}

static KUBERNETES: Module = Module {
    name: "kubernetes",
    version: KUBERNETES_VERSION,
    sources: sources!("kubernetes": "go.mod", "go.sum", "main.go"),
    builds: Builds::OneWithNames(&[
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kubelet",
        "kube-proxy",
        "kubectl",
    ]),
    // Without a version the API server would default objects as Kubernetes 0 did.
    link_flags: "-X k8s.io/component-base/version.gitVersion=v1.36.3 \
                 -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36",
    tags: "",
    minutes: "6 minutes",
};

static CONTAINERD: Module = Module {
    name: "containerd",
    version: "2.2.9",
    sources: sources!("containerd": "go.mod", "go.sum"),
    builds: Builds::Tools,
    link_flags: "-X github.com/containerd/containerd/v2/version.Version=2.2.9",
    tags: "",
    minutes: "a minute",
};

static CERT_MANAGER: Module = Module {
    name: "certmanager",
    version: "1.11.5",
    sources: sources!("certmanager": "go.mod", "go.sum"),
    builds: Builds::Tools,
    link_flags: "",
    tags: "",
    minutes: "3 minutes",
};

static GOOSE: Module = Module {
    name: "goose",
    version: "3.29.0",
    sources: sources!("goose": "go.mod", "go.sum"),
    builds: Builds::Tools,
    link_flags: "",
    // PostgreSQL only: the other drivers triple its size. The module's go.sum has no lines for them.
    tags: "no_mysql,no_mssql,no_sqlite3,no_clickhouse,no_libsql,no_vertica,no_ydb",
    minutes: "a minute",
};

static HELM: Module = Module {
    name: "helm",
    version: "4.3.1",
    sources: sources!("helm": "go.mod", "go.sum"),
    builds: Builds::Tools,
    link_flags: "",
    tags: "",
    minutes: "3 minutes",
};

/// What the benchmarks measure ours against; its sources are with them.
static PEERS: Module = Module {
    name: "peers",
    version: "0.25.2",
    sources: &[
        ("go.mod", include_str!("../../../benches/peers/go.mod")),
        ("go.sum", include_str!("../../../benches/peers/go.sum")),
        ("main.go", include_str!("../../../benches/peers/main.go")),
    ],
    builds: Builds::OneWithNames(&["webhook-peer"]),
    link_flags: "",
    tags: "",
    minutes: "3 minutes",
};

const DEFINITIONS: &str = "definitions.yaml";

impl Module {
    /// The folder with the programs; builds them when it isn't there.
    fn build(&self) -> Result<PathBuf> {
        let cache = cache_folder()?;
        let name = format!("{}-{}-{}", self.name, self.version, self.fingerprint());
        let folder = cache.join(&name);
        if folder.exists() {
            return Ok(folder);
        }
        fs::create_dir_all(&cache).at(&cache)?;
        let lock = cache.join(format!("{name}.lock"));
        let _lock = wait_for_lock(&lock, &format!("another process builds {} {}", self.name, self.version))?;
        if !folder.exists() {
            self.build_into(&cache, &folder)?;
        }
        Ok(folder)
    }

    fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for (file, text) in self.sources {
            hash.update(format!("{file} {}\n{text}", text.len()));
        }
        hash.update(format!("{} {}", self.link_flags, self.tags));
        hash.finalize()[..6].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Builds beside the folder's place and renames, so that a folder that exists is a whole one.
    fn build_into(&self, cache: &Path, folder: &Path) -> Result<()> {
        if command("go").arg("version").stdout(Stdio::null()).status().is_err() {
            return Err(Error::Preflight(format!(
                "Go is not installed (no program `go` in PATH), and {} {} has to be built with it",
                self.name, self.version
            )));
        }
        step(format!(
            "building {} {} from its Go module (about {} the first time)",
            self.name, self.version, self.minutes
        ));
        let begin = Instant::now();
        // A builder that was killed leaves this folder; we hold the lock, so nobody uses it.
        let work = cache.join(format!(".{}-{}.partial", self.name, self.fingerprint()));
        let (module, out) = (work.join("module"), work.join("out"));
        let _ = fs::remove_dir_all(&work);
        for new in [&module, &out] {
            fs::create_dir_all(new).at(new)?;
        }
        for (file, text) in self.sources {
            let file = module.join(file);
            fs::write(&file, text).at(&file)?;
        }
        self.compile(&module, &out)?;
        fs::rename(&out, folder).at(folder)?;
        let _ = fs::remove_dir_all(&work);
        step(format!("built {} {} in {} s", self.name, self.version, begin.elapsed().as_secs()));
        Ok(())
    }

    fn compile(&self, module: &Path, out: &Path) -> Result<()> {
        let mut go = command("go");
        go.current_dir(module).env("CGO_ENABLED", "0").args(["build", "-mod=readonly", "-trimpath", "-buildvcs=false"]);
        go.arg("-ldflags").arg(format!("-s -w {}", self.link_flags));
        if !self.tags.is_empty() {
            go.arg("-tags").arg(self.tags);
        }
        match self.builds {
            Builds::Tools => go.arg("-o").arg(format!("{}/", out.display())).arg("tool"),
            Builds::OneWithNames(_) => go.arg("-o").arg(out.join(self.name)).arg("."),
        };
        command::run(&mut go)?;
        if let Builds::OneWithNames(names) = self.builds {
            for name in names {
                let link = out.join(name);
                std::os::unix::fs::symlink(self.name, &link).at(&link)?;
            }
        }
        if self.name == CERT_MANAGER.name {
            let file = out.join(DEFINITIONS);
            fs::write(&file, definitions(module)?).at(&file)?;
        }
        Ok(())
    }
}

/// cert-manager's module has its resources' definitions as chart templates; the lines that are for
/// Helm hold only labels.
fn definitions(module: &Path) -> Result<String> {
    let mut go = command("go");
    go.current_dir(module).args(["list", "-m", "-f", "{{.Dir}}", "github.com/cert-manager/cert-manager"]);
    let folder = PathBuf::from(command::run(&mut go)?.trim()).join("deploy/crds");
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .at(&folder)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    let mut all = String::new();
    for file in files {
        all.push_str("---\n");
        for line in fs::read_to_string(&file).at(&file)?.lines().filter(|line| !line.contains("{{")) {
            all.push_str(line);
            all.push('\n');
        }
    }
    Ok(all)
}

/// `$MIGRATION_GATE_TEST_CACHE`, or `migration-gate/tools` in the user's cache folder.
///
/// # Errors
/// When neither that variable nor XDG_CACHE_HOME nor HOME is set.
pub fn cache_folder() -> Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = set(CACHE_VARIABLE) {
        return Ok(folder);
    }
    let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    let cache = cache.ok_or_else(|| {
        Error::Preflight(format!("no place for built programs: set {CACHE_VARIABLE}, XDG_CACHE_HOME or HOME"))
    })?;
    Ok(cache.join("migration-gate/tools"))
}

/// Takes the lock, saying so when somebody else has it. It is given back when the file is dropped, and
/// by the kernel when we die.
pub(crate) fn wait_for_lock(path: &Path, why: &str) -> Result<File> {
    let file = File::options().create(true).append(true).open(path).at(path)?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => step(format!("waiting: {why} ({})", path.display())),
        Err(TryLockError::Error(error)) => return Err(error).at(path),
    }
    file.lock().at(path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_names_the_version_that_it_is_called_by() {
        for (module, wanted) in [
            (&KUBERNETES, "k8s.io/kubernetes v"),
            (&CONTAINERD, "github.com/containerd/containerd/v2 v"),
            (&CERT_MANAGER, "github.com/cert-manager/cert-manager v"),
            (&GOOSE, "github.com/pressly/goose/v3 v"),
            (&HELM, "helm.sh/helm/v4 v"),
            (&PEERS, "sigs.k8s.io/controller-runtime v"),
        ] {
            let (_, go_mod) = module.sources[0];
            let wanted = format!("{wanted}{}", module.version);
            assert!(go_mod.lines().any(|line| line.trim().starts_with(&wanted)), "{wanted} is not in {}", module.name);
        }
    }

    #[test]
    fn the_link_flags_say_the_version_too() {
        assert!(KUBERNETES.link_flags.contains(&format!("gitVersion=v{KUBERNETES_VERSION} ")));
        assert!(CONTAINERD.link_flags.ends_with(CONTAINERD.version));
    }

    #[test]
    fn another_source_is_another_folder() {
        let prints: Vec<String> = [&KUBERNETES, &CONTAINERD, &CERT_MANAGER, &GOOSE, &HELM, &PEERS]
            .iter()
            .map(|module| module.fingerprint())
            .collect();
        for (index, print) in prints.iter().enumerate() {
            assert_eq!(print.len(), 12);
            assert!(!prints[..index].contains(print));
        }
    }
}
