//! The application on the cluster: its images, its manifest, its visitors.

use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::{Value, json};
use testcluster::image::Image;
use testcluster::progress::step;
use testcluster::tools::{self, Tool};

use crate::site::system;
use crate::{Error, Ledger, Result, Site};

/// The Deployment.
pub const NAME: &str = "shop";
/// Failed attempts before a migration is given up here: enough to see a retry, few enough not to wait for long.
pub const BACKOFF_LIMIT: u32 = 2;

/// A version of the application, with the migrations that it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Creates the schema.
    One = 1,
    /// Adds a column, which takes ten seconds.
    Two = 2,
    /// Has a mistake in its migration.
    Three = 3,
}

impl Release {
    const ALL: [Release; 3] = [Release::One, Release::Two, Release::Three];

    /// Its image.
    pub fn image(self) -> String {
        format!("docker.io/local/shop:{}", self as u8)
    }
}

/// The application on a cluster.
#[derive(Debug)]
pub struct Shop<'a> {
    /// Where it is.
    pub site: &'a Site,
    /// Its namespace, and the name of its database.
    pub namespace: String,
}

impl<'a> Shop<'a> {
    /// Builds the images, loads them, and opens one.
    ///
    /// # Errors
    /// When an image can't be built or an object is refused.
    pub fn open(site: &'a Site) -> Result<Shop<'a>> {
        Shop::load_images(site)?;
        Shop::open_in(site, NAME)
    }

    /// Builds the images and loads them.
    ///
    /// # Errors
    /// When one can't be built.
    pub fn load_images(site: &Site) -> Result<()> {
        Release::ALL.into_iter().try_for_each(|release| load(site, release))
    }

    /// Opens another one, where the images are loaded already: makes the namespace, its secret and its service.
    ///
    /// # Errors
    /// When an object is refused.
    pub fn open_in(site: &'a Site, namespace: &str) -> Result<Shop<'a>> {
        let shop = Shop { site, namespace: namespace.to_owned() };
        let url = site.database.create_database(namespace)?;
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": [
            { "apiVersion": "v1", "kind": "Namespace",
              "metadata": { "name": namespace, "labels": { "migration-gate.dev/inject": "enabled" } } },
            { "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "database", "namespace": namespace },
              "stringData": { "url": url } },
            { "apiVersion": "v1", "kind": "Service", "metadata": { "name": NAME, "namespace": namespace },
              "spec": { "selector": { "app": NAME }, "ports": [{ "port": 80, "targetPort": 8080 }] } },
        ] });
        site.cluster.apply(&list.to_string())?;
        Ok(shop)
    }

    /// Applies the Deployment of a release: an ordinary manifest with a label and two annotations.
    ///
    /// # Errors
    /// When it is refused.
    pub fn apply(&self, release: Release, replicas: u32) -> Result<()> {
        self.site.cluster.apply(&self.manifest(release, replicas).to_string())?;
        Ok(())
    }

    /// What [`Shop::apply`] applies.
    #[must_use]
    pub fn manifest(&self, release: Release, replicas: u32) -> Value {
        manifest(&self.namespace, release, replicas)
    }

    /// What was run against the database so far.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub fn ledger(&self) -> Result<Ledger> {
        Ledger::read(&self.site.database, &self.namespace)
    }

    /// Lets a customer in, who asks the service all the time.
    ///
    /// # Errors
    /// When the service has no address, or the visitor can't be started.
    pub fn visitor(&self) -> Result<Visitor> {
        let service = self.site.cluster.get(&["service", NAME, "-n", &self.namespace])?;
        let address = service["spec"]["clusterIP"].as_str().unwrap_or_default().to_owned();
        let program = self.site.artefacts.shop.to_string_lossy();
        let mut command = self.site.cluster.node_command(0, &program)?;
        command.args(["visit", &format!("{address}:80")]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = command.spawn().map_err(|error| Error::System { what: "the visitor".to_owned(), error })?;
        Ok(Visitor { child })
    }
}

fn load(site: &Site, release: Release) -> Result<()> {
    let number = release as u8;
    step(format!("building and loading {}", release.image()));
    let mut image = Image::new(release.image())
        .file("/bin/shop", &site.artefacts.shop, 0o755)
        .file("/bin/goose", tools::path(Tool::Goose)?, 0o755)
        .entrypoint(["/bin/shop"])
        .user("65532:65532");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("shop/migrations/v{number}"));
    for entry in folder.read_dir().map_err(|error| system(&folder, error))? {
        let file = entry.map_err(|error| system(&folder, error))?;
        image = image.file(&format!("/migrations/{}", file.file_name().to_string_lossy()), file.path(), 0o644);
    }
    let archive = site.artefacts.shop.with_file_name(format!("shop-{number}.tar"));
    image.build(&archive)?;
    site.cluster.load_image(&archive)?;
    Ok(())
}

/// A customer who asks all the time.
#[derive(Debug)]
pub struct Visitor {
    child: Child,
}

impl Visitor {
    /// Sends the customer home, and returns how many requests there were, which failed, and who answered.
    ///
    /// # Errors
    /// When the visitor ended before.
    pub fn leave(self) -> Result<Value> {
        let output =
            self.child.wait_with_output().map_err(|error| Error::System { what: "the visitor".to_owned(), error })?;
        serde_json::from_slice(&output.stdout).map_err(|error| Error::Unreadable(format!("the visitor: {error}")))
    }
}

fn manifest(namespace: &str, release: Release, replicas: u32) -> Value {
    let url =
        |name: &str| json!({ "name": name, "valueFrom": { "secretKeyRef": { "name": "database", "key": "url" } } });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": NAME, "namespace": namespace,
            "labels": { "migration-gate.dev/gated": "true" },
            "annotations": {
                "migration-gate.dev/command": "/bin/shop ledger /bin/goose up",
                "migration-gate.dev/backoff-limit": BACKOFF_LIMIT.to_string(),
            },
        },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": NAME } },
            "strategy": { "rollingUpdate": { "maxUnavailable": 0, "maxSurge": 3 } },
            "template": {
                "metadata": { "labels": { "app": NAME } },
                "spec": {
                    "terminationGracePeriodSeconds": 10,
                    "securityContext": { "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": { "type": "RuntimeDefault" } },
                    "containers": [{
                        "name": "shop",
                        "image": release.image(),
                        "args": ["serve"],
                        "env": [
                            url("DATABASE_URL"),
                            { "name": "RELEASE", "value": (release as u8).to_string() },
                            { "name": "GOOSE_DRIVER", "value": "postgres" },
                            url("GOOSE_DBSTRING"),
                            { "name": "GOOSE_MIGRATION_DIR", "value": "/migrations" },
                        ],
                        "ports": [{ "containerPort": 8080 }],
                        "readinessProbe": { "httpGet": { "path": "/", "port": 8080 }, "periodSeconds": 1 },
                        // Requests that were sent here before the endpoints changed are still answered.
                        "lifecycle": { "preStop": { "sleep": { "seconds": 3 } } },
                        "resources": { "requests": { "cpu": "10m", "memory": "16Mi" } },
                        "securityContext": {
                            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                            "capabilities": { "drop": ["ALL"] },
                        },
                    }],
                },
            },
        },
    })
}
