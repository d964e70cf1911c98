//! A real MariaDB on this machine, from Debian's package.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use super::starter::{Folder, LOOPBACK, SOON, until};

/// A server with data of its own; ends when this is dropped or the test's process dies.
pub struct MariaDb {
    address: SocketAddr,
    folder: Folder,
    server: Child,
}

const PASSWORD: &str = "testmariadb";

/// The server that tests share; it ends with the last of them.
pub fn mariadb() -> Arc<MariaDb> {
    static SHARED: OnceLock<Mutex<Weak<MariaDb>>> = OnceLock::new();
    let mut shared = SHARED.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(server) = shared.upgrade() {
        return server;
    }
    let server = Arc::new(MariaDb::start());
    *shared = Arc::downgrade(&server);
    server
}

impl MariaDb {
    pub fn start() -> MariaDb {
        install("/usr/sbin/mariadbd", &["mariadb-server-core", "mariadb-client-core"]);
        let folder = Folder::new();
        let data = folder.file("data");
        let secret = folder.file("init.sql");
        // One statement a line.
        let statements = format!(
            "CREATE USER app@'%' IDENTIFIED BY '{PASSWORD}';\nGRANT ALL ON *.* TO app@'%' WITH GRANT OPTION;\n"
        );
        fs::write(&secret, statements).expect("a file");
        run(Command::new("chown").args(["-R", "nobody"]).arg(&folder.0));
        let mut make = unprivileged("mariadb-install-db");
        make.arg("--no-defaults").arg(format!("--datadir={}", data.display()));
        run(make.args(["--auth-root-authentication-method=normal", "--skip-test-db"]));
        let address = free_address();
        let mut command = unprivileged("mariadbd");
        command
            .arg("--no-defaults")
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--socket={}", folder.file("socket").display()))
            .arg(format!("--pid-file={}", folder.file("pid").display()))
            .arg(format!("--init-file={}", secret.display()))
            .args(["--bind-address=127.0.0.1", &format!("--port={}", address.port())])
            .args(["--max-connections=300", "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=32M"])
            .args(["--skip-log-bin", "--performance-schema=OFF", "--skip-name-resolve"]);
        let log = fs::File::create(folder.file("log")).expect("a file");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file")).stderr(log);
        let server = spawn_to_die_with_us(command);
        let server = MariaDb { address, folder, server };
        until("MariaDB to take connections", SOON, || {
            TcpStream::connect(address).ok()?;
            server.try_sql("SELECT 1").ok()
        });
        server
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url_of(&self, database: &str) -> String {
        format!("mysql://app:{PASSWORD}@{}/{database}", self.address)
    }

    /// Makes a database, and returns its URL.
    pub fn create_database(&self, name: &str) -> String {
        self.sql(&format!("CREATE DATABASE {name}"));
        self.url_of(name)
    }

    pub fn sql(&self, sql: &str) -> String {
        self.try_sql(sql).expect("a statement that works")
    }

    fn try_sql(&self, sql: &str) -> Result<String, String> {
        let mut client = Command::new("mariadb");
        client.args(["--no-defaults", "-h", "127.0.0.1", "-P", &self.address.port().to_string(), "-u", "app"]);
        let output = client.args(["-N", "-B", "-e", sql]).env("MYSQL_PWD", PASSWORD).output().expect("its client");
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        if std::thread::panicking() {
            eprintln!("{}", fs::read_to_string(self.folder.file("log")).unwrap_or_default());
        }
    }
}

pub fn free_address() -> SocketAddr {
    TcpListener::bind((LOOPBACK, 0)).and_then(|listener| listener.local_addr()).expect("a free port")
}

/// A server's program as a user who may nothing, in its own sight the first of its parents.
pub fn unprivileged(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    let parts = if rustix::process::geteuid().is_root() {
        &["--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--pdeathsig", "KILL", "--"][..]
    } else {
        &["--pdeathsig", "KILL", "--"][..]
    };
    command.args(parts).arg(program).current_dir("/");
    command
}

/// Starts a process from a thread that never ends before it: a parent-death signal is about the parent's thread.
pub fn spawn_to_die_with_us(mut command: Command) -> Child {
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _ = send.send(command.spawn());
        loop {
            std::thread::park();
        }
    });
    receive.recv().expect("the thread sends").expect("the server's program")
}

pub fn run(command: &mut Command) {
    let output = command.output().expect("a program");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Installs Debian's packages if the file is missing, saying so.
pub fn install(shows: &str, packages: &[&str]) {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    if fs::exists(shows).unwrap_or(false) {
        return;
    }
    println!("installing Debian packages: {}", packages.join(" "));
    let apt = || {
        let mut apt = Command::new("apt-get");
        // In runlevel 1 no package starts its service.
        apt.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1").args(["-q", "-o", "DPkg::Lock::Timeout=300"]);
        apt
    };
    run(apt().arg("update"));
    run(apt().args(["install", "-y", "--no-install-recommends"]).args(packages));
}
