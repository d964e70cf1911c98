//! Who is measured: programs that run one after the other on the same core.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use testcluster::tools::{self, Tool};

use crate::Failure;

/// A server that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rival {
    /// This project's webhook.
    Ours,
    /// controller-runtime.
    Peer,
    /// Nothing but TLS and HTTP.
    Floor,
    /// The same, with the patch that [`Identity::keep_patch`] was given.
    FixedPatch,
}

impl Rival {
    /// Those that are put under load.
    pub const ALL: [Rival; 3] = [Rival::Ours, Rival::Peer, Rival::Floor];

    /// Its name in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Rival::Ours => "ours",
            Rival::Peer => "controller-runtime",
            Rival::Floor => "floor",
            Rival::FixedPatch => "fixed patch",
        }
    }
}

/// A certificate for this machine, in a folder, and the authority that signed it.
pub struct Identity {
    folder: PathBuf,
    /// The authority's certificate, PEM.
    pub authority: String,
}

impl Identity {
    /// Issues one into a new folder.
    pub fn new(addresses: &[IpAddr]) -> Result<Identity, Failure> {
        let folder = std::env::temp_dir().join(format!("bench-webhook-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let key = KeyPair::generate()?;
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = parameters.self_signed(&key)?.pem();
        let issuer = Issuer::new(parameters, key);
        let key = KeyPair::generate()?;
        let mut parameters = CertificateParams::new(vec!["localhost".to_owned()])?;
        parameters.subject_alt_names.extend(addresses.iter().map(|address| SanType::IpAddress(*address)));
        fs::write(folder.join("tls.crt"), parameters.signed_by(&key, &issuer)?.pem())?;
        fs::write(folder.join("tls.key"), key.serialize_pem())?;
        Ok(Identity { folder, authority })
    }

    /// Keeps the patch, in base64, that [`Rival::FixedPatch`] is to send.
    pub fn keep_patch(&self, patch: &str) -> Result<(), Failure> {
        Ok(fs::write(self.patch(), patch)?)
    }

    fn patch(&self) -> PathBuf {
        self.folder.join("patch")
    }

    /// Where callgrind writes what it counted of a server; each time that it is asked, a file with the next number.
    pub fn callgrind(&self, rival: Rival, number: Option<usize>) -> PathBuf {
        let number = number.map_or_else(String::new, |number| format!(".{number}"));
        self.folder.join(format!("{rival:?}.callgrind{number}"))
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        // What is left is in the folder for temporary files.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A running server; it is killed when this is dropped.
pub struct Running {
    /// Which one.
    pub rival: Rival,
    /// Where it serves.
    pub address: SocketAddr,
    process: Child,
}

/// Where a server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On [`SERVERS_CORE`].
    Core,
    /// Wherever the system puts it.
    Anywhere,
    /// In callgrind, which counts its instructions.
    Callgrind,
}

/// The processor that servers get on [`Place::Core`]; the load takes the next one.
pub const SERVERS_CORE: usize = 0;

impl Running {
    /// Starts a server, and waits until it listens.
    pub fn start(
        rival: Rival,
        host: IpAddr,
        identity: &Identity,
        program: &Path,
        place: Place,
    ) -> Result<Running, Failure> {
        // Free now; nobody else starts servers here in between.
        let address = TcpListener::bind((host, 0))?.local_addr()?;
        let (port, text) = (address.port().to_string(), address.to_string());
        let (file, arguments): (PathBuf, Vec<&str>) = match rival {
            Rival::Ours => (
                program.to_owned(),
                vec!["webhook", "--agent-image", AGENT_IMAGE, "--listen", &text, "--health-listen", "127.0.0.1:0"],
            ),
            Rival::Peer => (tools::path(Tool::WebhookPeer)?, vec!["-agent-image", AGENT_IMAGE, "-port", &port]),
            Rival::Floor | Rival::FixedPatch => (std::env::current_exe()?, vec!["floor", "--listen", &text]),
        };
        let (host, patch) = (host.to_string(), identity.patch());
        let arguments = arguments.into_iter().map(OsStr::new).chain(match rival {
            Rival::Peer => vec![OsStr::new("-host"), host.as_ref()],
            Rival::FixedPatch => vec![OsStr::new("--patch"), patch.as_ref()],
            Rival::Ours | Rival::Floor => vec![],
        });
        let mut command = match place {
            Place::Core => {
                let mut command = Command::new("taskset");
                command.args(["-c", &SERVERS_CORE.to_string()]).arg(file);
                command
            }
            Place::Anywhere => Command::new(file),
            Place::Callgrind => {
                let mut out = OsString::from("--callgrind-out-file=");
                out.push(identity.callgrind(rival, None));
                let mut command = Command::new("valgrind");
                command.arg("--tool=callgrind").arg(out).arg(file);
                command
            }
        };
        command.args(arguments).arg(if rival == Rival::Peer { "-tls-dir" } else { "--tls-dir" }).arg(&identity.folder);
        // Every line of a log is written somewhere, as it would be in a container.
        let log = fs::File::create(identity.folder.join(format!("{}.log", rival.name())))?;
        if rival == Rival::Ours {
            command.env("GLIBC_TUNABLES", tunables().ok_or("deploy/webhook.yaml says nothing of memory")?);
        }
        let process = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let mut running = Running { rival, address, process };
        let start = Instant::now();
        while std::net::TcpStream::connect(address).is_err() {
            if start.elapsed() > Duration::from_secs(20) || running.process.try_wait()?.is_some() {
                return Err(format!("{} doesn't listen on {address}", rival.name()).into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(running)
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Processor time that it has used, from /proc/PID/stat: user and system, of all threads.
    pub fn processor_time(&self) -> Result<Duration, Failure> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        let fields: Vec<&str> = stat.rsplit_once(')').ok_or("no such process")?.1.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        Ok(Duration::from_millis(1000 * ticks / rustix::param::clock_ticks_per_second()))
    }

    /// Resident memory in kilobytes.
    pub fn resident(&self) -> Result<u64, Failure> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no such process")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// How the installation lets the webhook use memory.
fn tunables() -> Option<&'static str> {
    let (_, after) = include_str!("../../../deploy/webhook.yaml").split_once("name: GLIBC_TUNABLES\n")?;
    after.lines().next()?.trim().strip_prefix("value: ")
}

/// The image that the injections name.
const AGENT_IMAGE: &str = "registry.example/migration-gate:0.1.0";

/// The address of servers that only this machine's load asks.
pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
