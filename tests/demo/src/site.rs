//! The cluster, with cert-manager and migration-gate on it, and a database beside it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use testcluster::image::Image;
use testcluster::progress::step;
use testcluster::{Cluster, Options, Profile, certmanager, postgres};

use crate::{Error, Result};

/// How long an installation may take: two small Deployments and a certificate.
const INSTALL: Duration = Duration::from_secs(120);

/// What was built before: `make image shop` makes these.
#[derive(Clone, Debug)]
pub struct Artefacts {
    /// The checkout, which holds what is applied.
    pub root: PathBuf,
    /// The archive of migration-gate's image.
    pub image: PathBuf,
    /// migration-gate's program, for the machine of who uses it.
    pub program: PathBuf,
    /// The agent's program.
    pub agent: PathBuf,
    /// The shop's program.
    pub shop: PathBuf,
}

impl Artefacts {
    /// The ones of this checkout.
    ///
    /// # Errors
    /// When one is missing, with what makes it.
    pub fn of_this_checkout() -> Result<Artefacts> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let root = root.canonicalize().map_err(|error| system(&root, error))?;
        let target = root.join("target");
        let of_host = target.join(env!("HOST"));
        let artefacts = Artefacts {
            image: target.join("migration-gate.tar"),
            program: of_host.join("release/migration-gate"),
            agent: of_host.join("agent/migration-gate-agent"),
            shop: of_host.join("release/shop"),
            root,
        };
        for file in [&artefacts.image, &artefacts.program, &artefacts.agent, &artefacts.shop] {
            file.metadata().map_err(|error| Error::System {
                what: format!("{} is missing; `make image shop` makes it", file.display()),
                error,
            })?;
        }
        Ok(artefacts)
    }
}

/// An I/O error of this file.
pub(crate) fn system(path: &Path, error: std::io::Error) -> Error {
    Error::System { what: path.display().to_string(), error }
}

/// A cluster with migration-gate on it.
#[derive(Debug)]
pub struct Site {
    /// The cluster. It ends first.
    pub cluster: Cluster,
    /// The database that its applications use, outside of it.
    pub database: postgres::Server,
    /// What was built before.
    pub artefacts: Artefacts,
}

impl Site {
    /// Boots a cluster and installs migration-gate on it with `kubectl apply -k`, as its users do.
    ///
    /// # Errors
    /// Whatever does not come up, with its log.
    pub fn set_up(name: &str, nodes: usize) -> Result<Site> {
        Site::with(Options::new(name, Profile::Node { nodes }))
    }

    /// The same with other options.
    ///
    /// # Errors
    /// As above.
    pub fn with(options: Options) -> Result<Site> {
        let site = Site::without_us(options)?;
        site.install()?;
        Ok(site)
    }

    /// The same before migration-gate is installed on it.
    ///
    /// # Errors
    /// As above.
    pub fn without_us(options: Options) -> Result<Site> {
        let artefacts = Artefacts::of_this_checkout()?;
        let cluster = Cluster::boot(options)?;
        let database = postgres::Server::start(cluster.host_address())?;
        certmanager::install(&cluster)?;
        Ok(Site { cluster, database, artefacts })
    }

    /// Gives migration-gate's image to every node under another full name.
    ///
    /// # Errors
    /// When it can't be built or loaded.
    pub fn load_as(&self, image: &str) -> Result<()> {
        let archive = self.cluster.folder("images")?.join("migration-gate.tar");
        Image::new(image)
            .file("/bin/migration-gate", &self.artefacts.program, 0o755)
            .file("/migration-gate-agent", &self.artefacts.agent, 0o755)
            .entrypoint(["/bin/migration-gate"])
            .user("65532:65532")
            .build(&archive)?;
        Ok(self.cluster.load_image(&archive)?)
    }

    fn install(&self) -> Result<()> {
        self.cluster.load_image(&self.artefacts.image)?;
        step("installing migration-gate: kubectl apply -k .");
        let root = self.artefacts.root.to_string_lossy();
        self.cluster.kubectl(&["apply", "-k", &root])?;
        for deployment in ["migration-gate-webhook", "migration-gate-controller"] {
            let object = format!("deployment/{deployment}");
            self.cluster.wait_for_condition(&object, "migration-gate-system", "Available", INSTALL)?;
        }
        let injected = "the API server to trust the webhook";
        self.cluster.wait_for(injected, INSTALL, || {
            let hook = self.cluster.get(&["mutatingwebhookconfigurations", "migration-gate"])?;
            let bundle = hook["webhooks"][0]["clientConfig"]["caBundle"].as_str().unwrap_or_default();
            Ok(if bundle.is_empty() {
                testcluster::progress::Seen::NotYet("its caBundle is empty".to_owned())
            } else {
                testcluster::progress::Seen::Done(())
            })
        })?;
        step("migration-gate is installed");
        Ok(())
    }
}
