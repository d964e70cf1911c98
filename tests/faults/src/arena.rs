//! The cluster that is hurt: two nodes, a database, migration-gate, and a folder that all nodes share.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use demo::Site;
use serde_json::{Value, json};
use testcluster::image::Image;
use testcluster::progress::{Seen, step};
use testcluster::{Options, Profile};

use migration_gate::contract::label;

use crate::{Api, Error, Result};

/// The namespace of the cases.
pub const NAMESPACE: &str = "faults";
/// The image of the witness.
pub const IMAGE: &str = "docker.io/local/witness:1";
/// How many nodes there are.
pub const NODES: usize = 2;
/// The name of the database.
const DATABASE: &str = "faults";
/// How long anything may take that has nothing to wait for but a busy machine.
pub const LIMIT: Duration = Duration::from_secs(180);

/// A cluster with migration-gate on it, and the witness.
pub struct Arena {
    /// The cluster. It ends when this is dropped.
    pub site: Site,
    /// Its API.
    pub api: Api,
    /// The program whose controller runs outside of the cluster where one has to: the image's own, or a broken one.
    pub controller: PathBuf,
    shared: PathBuf,
    cases: AtomicU32,
}

impl Arena {
    /// Boots the cluster and installs everything.
    ///
    /// # Errors
    /// Whatever does not come up, with its log.
    pub fn set_up(name: &str) -> Result<Arena> {
        // A dead node is noticed soon, so that the tests of what follows from it are short.
        let options = Options::new(name, Profile::Node { nodes: NODES })
            .argument("kube-controller-manager", "--node-monitor-grace-period=12s")
            .argument("kube-apiserver", "--default-not-ready-toleration-seconds=5")
            .argument("kube-apiserver", "--default-unreachable-toleration-seconds=5");
        let site = Site::with(options)?;
        let api = Api::new(&site.cluster.kubeconfig())?;
        let shared = site.cluster.folder("shared")?;
        open_to_all(&shared)?;
        let controller = site.artefacts.shop.with_file_name("migration-gate");
        let arena = Arena { site, api, controller, shared, cases: AtomicU32::new(0) };
        arena.open()?;
        Ok(arena)
    }

    fn open(&self) -> Result<()> {
        step("building and loading the witness");
        let program = self.site.artefacts.shop.with_file_name("witness");
        program.metadata().map_err(|error| Error::System {
            what: format!("{} is missing; `make witness` makes it", program.display()),
            error,
        })?;
        let archive = program.with_file_name("witness.tar");
        let image = Image::new(IMAGE).file("/bin/witness", &program, 0o755).entrypoint(["/bin/witness"]);
        image.user("65532:65532").build(&archive).map_err(testcluster::Error::from)?;
        self.site.cluster.load_image(&archive)?;
        self.site.database.create_database(DATABASE)?;
        self.sql(
            "CREATE TABLE runs (id serial PRIMARY KEY, name text, attempt bigint, pod text, overlap boolean, \
             started timestamptz DEFAULT clock_timestamp(), ended timestamptz)",
        )?;
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": NAMESPACE, "labels": { label::INJECT: label::INJECT_ENABLED } } });
        self.site.cluster.apply(&namespace.to_string())?;
        self.wait("the namespace's service account", LIMIT, || {
            let found = self.api.get(&format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default"))?;
            Ok(found.ok_or_else(|| "there is none".to_owned()))
        })?;
        Ok(())
    }

    /// A folder that the pods of all nodes share, for one case; and the case's number.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn new_folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.shared.join(name);
        fs::create_dir(&folder).map_err(|error| system(&folder, error))?;
        open_to_all(&folder)?;
        Ok(folder)
    }

    /// The folder of the cases' folders.
    #[must_use]
    pub fn shared(&self) -> &Path {
        &self.shared
    }

    /// A number that no case had before.
    #[must_use]
    pub fn next_number(&self) -> u32 {
        self.cases.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Runs SQL in the cases' database.
    ///
    /// # Errors
    /// When the server refuses it.
    pub fn sql(&self, text: &str) -> Result<String> {
        Ok(self.site.database.psql_in(DATABASE, text)?)
    }

    /// The database's URL. With `keepalive`, the server gives up a client within seconds that went away without a word,
    /// and lets go of its locks; without, it keeps them for hours.
    #[must_use]
    pub fn database_url(&self, keepalive: bool) -> String {
        let url = self.site.database.url_of(DATABASE);
        let options =
            "&options=-c%20tcp_keepalives_idle%3D2%20-c%20tcp_keepalives_interval%3D1%20-c%20tcp_keepalives_count%3D3";
        if keepalive { format!("{url}{options}") } else { url }
    }

    /// Looks again and again until `look` returns something; what it could not read is not there yet.
    ///
    /// # Errors
    /// After `limit`, with what was seen last.
    pub fn wait<T>(
        &self,
        what: &str,
        limit: Duration,
        mut look: impl FnMut() -> Result<std::result::Result<T, String>>,
    ) -> Result<T> {
        Ok(testcluster::progress::wait(what, limit, || {
            Ok(match look() {
                Ok(Ok(value)) => Seen::Done(value),
                Ok(Err(seen)) => Seen::NotYet(seen),
                Err(error) => Seen::NotYet(error.to_string()),
            })
        })?)
    }

    /// The number of the node that has this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn node_index(&self, name: &str) -> Result<usize> {
        let nodes = 0..self.site.cluster.nodes();
        let found = nodes.into_iter().find(|index| self.site.cluster.node_name(*index) == name);
        found.ok_or_else(|| Error::Unreadable(format!("no node is called {name:?}")))
    }

    /// Whether a node is Ready; none if there is no such node.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn node_is_ready(&self, name: &str) -> Result<Option<bool>> {
        let node = self.api.get(&format!("/api/v1/nodes/{name}"))?;
        Ok(node.map(|node| has_condition(&node, "Ready")))
    }

    /// Waits until a node is Ready, or not.
    ///
    /// # Errors
    /// When it stays as it is.
    pub fn wait_for_node(&self, name: &str, wanted: bool) -> Result<()> {
        self.wait(&format!("{name} to be Ready: {wanted}"), LIMIT, || {
            let ready = self.node_is_ready(name)?;
            Ok(if ready == Some(wanted) { Ok(()) } else { Err(format!("{ready:?}")) })
        })
    }
}

/// Whether an object's condition is true.
pub fn has_condition(object: &Value, type_: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|one| one["type"] == type_ && one["status"] == "True"))
}

/// An I/O error about a file.
pub fn system(path: &Path, error: std::io::Error) -> Error {
    Error::System { what: path.display().to_string(), error }
}

fn open_to_all(folder: &Path) -> Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).map_err(|error| system(folder, error))
}
