//! A real PostgreSQL on this machine, for pods and tests to use.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::command::{self, command};
use crate::error::{At, Error, Result};
use crate::packages;
use crate::process::Identity;
use crate::progress::{self, Seen, step};
use crate::sandbox::{Network, Place, Sandbox};
use crate::state;

const USER: &str = "postgres";
const PASSWORD: &str = "testcluster";
const LIMIT: Duration = Duration::from_secs(60);

/// A server with data of its own. It ends when this is dropped and when its owner is killed.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    programs: PathBuf,
    folder: PathBuf,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    server: Child,
    /// Root's servers are in one, and end with it.
    _sandbox: Option<Sandbox>,
}

impl Server {
    /// Starts one that listens on this address only, such as [`crate::Cluster::host_address`], on a free port.
    ///
    /// # Errors
    /// When it can't be installed or does not come up; the error names its log.
    pub fn start(address: IpAddr) -> Result<Self> {
        let programs = install()?;
        let folder = new_folder()?;
        let free = TcpListener::bind((address, 0)).and_then(|listener| listener.local_addr());
        let address = free.map_err(|error| Error::Invalid(format!("no server can listen on {address}: {error}")))?;
        let mut server = Self { address, programs, folder, running: None };
        server.create()?;
        server.run()?;
        step(format!("PostgreSQL listens on {address} (log in {})", server.log().display()));
        Ok(server)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of the database `postgres`, for a superuser.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// The URL of a database.
    #[must_use]
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://{USER}:{PASSWORD}@{}/{database}?sslmode=disable", self.address)
    }

    /// Makes a database and returns its URL: tests that share a server don't meet in it.
    ///
    /// # Errors
    /// When there is one of that name.
    pub fn create_database(&self, name: &str) -> Result<String> {
        self.psql(&format!("CREATE DATABASE \"{name}\""))?;
        Ok(self.url_of(name))
    }

    /// Runs SQL in the database `postgres`; rows are lines, with | between columns.
    ///
    /// # Errors
    /// At the first statement that fails, with what the server said.
    pub fn psql(&self, sql: &str) -> Result<String> {
        self.psql_in("postgres", sql)
    }

    /// The same in another database.
    ///
    /// # Errors
    /// At the first statement that fails, with what the server said.
    pub fn psql_in(&self, database: &str, sql: &str) -> Result<String> {
        let mut psql = command(self.programs.join("psql"));
        psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", &self.url_of(database), "-f", "-"]);
        command::run_with_input(&mut psql, sql).map(|text| text.trim_end().to_owned())
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    /// Kills it as a crash would; [`Self::run`] starts it again with what was committed.
    pub fn kill(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        if running._sandbox.is_none() {
            // Its other processes end by themselves when they see that it is gone.
            let _ = running.server.kill();
            let _ = running.server.wait();
            return;
        }
        drop(running._sandbox.take());
        let _ = running.server.wait();
    }

    /// Starts it, if it does not run, on the same port and data.
    ///
    /// # Errors
    /// When it does not come up; the error names its log.
    pub fn run(&mut self) -> Result<()> {
        if self.running.is_some() {
            return Ok(());
        }
        let sandbox = match rustix::process::geteuid().is_root() {
            true => Some(Sandbox::start(Network::Shared, "")?),
            false => None,
        };
        // A crashed server's successor waits in vain for a process that has got its number since.
        let _ = fs::remove_file(self.folder.join("data/postmaster.pid"));
        let mut start = self.as_server_user(sandbox.as_ref().map(Sandbox::place), "postgres");
        start.arg("-D").arg(self.folder.join("data"));
        let settings = [
            format!("listen_addresses={}", self.address.ip()),
            format!("port={}", self.address.port()),
            format!("unix_socket_directories={}", self.folder.display()),
            // Nobody pulls the machine's plug. But the server may be killed, so a commit is written before it
            // is acknowledged (synchronous_commit stays on); without fsync that costs next to nothing.
            "fsync=off".into(),
            "full_page_writes=off".into(),
            // In the data folder, which goes with the server; /dev/shm is everybody's.
            "dynamic_shared_memory_type=mmap".into(),
            "shared_buffers=32MB".into(),
            "max_connections=300".into(),
        ];
        settings.iter().for_each(|setting| {
            start.args(["-c", setting]);
        });
        let log = fs::File::options().create(true).append(true).open(self.log()).at(&self.log())?;
        start.stdin(Stdio::null()).stdout(log.try_clone().at(&self.log())?).stderr(log);
        crate::sandbox::own_group(&mut start);
        let server = start.spawn().map_err(|error| command::not_started(&start, &error))?;
        self.running = Some(Running { server, _sandbox: sandbox });
        self.wait()
    }

    fn wait(&mut self) -> Result<()> {
        let (address, log) = (self.address, self.log());
        let mut ready = command(self.programs.join("pg_isready"));
        ready.args(["-q", "-h", &address.ip().to_string(), "-p", &address.port().to_string()]);
        let Some(running) = &mut self.running else { return Ok(()) };
        progress::wait("PostgreSQL to take connections", LIMIT, || {
            if running.server.try_wait().at(&log)?.is_some() {
                let text = fs::read_to_string(&log).unwrap_or_default();
                return Err(Error::Ended {
                    component: "PostgreSQL".into(),
                    log: log.clone(),
                    tail: command::tail(&text, 15),
                });
            }
            if let Err(error) = TcpStream::connect(address) {
                return Ok(Seen::NotYet(error.to_string()));
            }
            Ok(command::run(&mut ready).into())
        })?;
        Ok(())
    }

    /// Makes the data folder. PostgreSQL refuses to run as root, so that user gets a folder of its own.
    fn create(&self) -> Result<()> {
        let secret = self.folder.join("password");
        fs::write(&secret, PASSWORD).at(&secret)?;
        if rustix::process::geteuid().is_root() {
            command::run(command("chown").args(["-R", USER]).arg(&self.folder))?;
        }
        let data = self.folder.join("data");
        let mut initdb = self.as_server_user(None, "initdb");
        initdb.arg("-D").arg(&data).arg(format!("--pwfile={}", secret.display()));
        initdb.args([
            "-U",
            USER,
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "--auth=scram-sha-256",
            "--no-sync",
            "--no-instructions",
        ]);
        command::run(&mut initdb)?;
        let rules = data.join("pg_hba.conf");
        fs::write(&rules, "local all all trust\nhost all all all scram-sha-256\n").at(&rules)
    }

    fn as_server_user(&self, place: Option<Place>, program: &str) -> Command {
        let program = self.programs.join(program);
        if !rustix::process::geteuid().is_root() {
            return command(program);
        }
        let mut setpriv = place.map_or_else(|| command("setpriv"), |place| place.command("setpriv"));
        setpriv.args(["--reuid", USER, "--regid", USER, "--clear-groups", "--"]).arg(program);
        // initdb and postgres want to be able to come back to where they started.
        setpriv.current_dir(&self.folder);
        setpriv
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The folder of the server's programs; Debian keeps one for each major version outside of PATH.
fn install() -> Result<PathBuf> {
    if let Some(found) = newest_programs() {
        return Ok(found);
    }
    packages::ensure(packages::POSTGRES)?;
    newest_programs()
        .ok_or_else(|| Error::Preflight("PostgreSQL's programs are not in /usr/lib/postgresql/*/bin".into()))
}

fn newest_programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path().join("bin"))))
        .filter(|(_, programs)| programs.join("initdb").exists())
        .max()
        .map(|(_, programs)| programs)
}

/// A folder that says whose it is, so that the next server can remove it when that process is gone.
fn new_folder() -> Result<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let all = state::default_folder()?.join(".postgres");
    fs::create_dir_all(&all).at(&all)?;
    for entry in fs::read_dir(&all).at(&all)?.flatten() {
        if !owner(&entry.path()).is_some_and(Identity::is_alive) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let owner = Identity::own().ok_or_else(|| Error::Invalid("/proc does not show this process".into()))?;
    let folder = all.join(format!("{}.{}", owner.label(), COUNT.fetch_add(1, Ordering::Relaxed)));
    fs::create_dir(&folder).at(&folder)?;
    Ok(folder)
}

fn owner(folder: &Path) -> Option<Identity> {
    Identity::from_label(folder.file_stem()?.to_str()?)
}
