//! A real pgbouncer in transaction mode, from Debian's package.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use testcluster::postgres::Server;

use super::mariadb::{free_address, install, run, spawn_to_die_with_us, unprivileged};
use super::starter::{Folder, Running, SOON, assert_apart, new_name, postgres, start, until, witness};

/// A pooler before a server; ends when this is dropped or the test's process dies.
pub struct Pooler {
    address: SocketAddr,
    password: String,
    process: Child,
    _folder: Folder,
}

impl Pooler {
    pub fn start(server: &Server) -> Pooler {
        Pooler::start_in("transaction", server)
    }

    fn start_in(mode: &str, server: &Server) -> Pooler {
        install("/usr/sbin/pgbouncer", &["pgbouncer"]);
        let folder = Folder::new();
        let (address, target) = (free_address(), server.address());
        let password = server.url().split(['/', ':', '@']).nth(4).expect("the URL has a password").to_owned();
        let users = folder.file("users.txt");
        fs::write(&users, format!("\"postgres\" \"{password}\"\n")).expect("a file");
        let settings = format!(
            "[databases]\n* = host={} port={}\n[pgbouncer]\nlisten_addr = {}\nlisten_port = {}\nunix_socket_dir =\n\
             auth_type = scram-sha-256\nauth_file = {}\npool_mode = {mode}\ndefault_pool_size = 5\n\
             max_client_conn = 300\n",
            target.ip(),
            target.port(),
            address.ip(),
            address.port(),
            users.display(),
        );
        let file = folder.file("pgbouncer.ini");
        fs::write(&file, settings).expect("a file");
        run(Command::new("chown").args(["-R", "nobody"]).arg(&folder.0));
        let mut command = unprivileged("pgbouncer");
        let log = fs::File::create(folder.file("log")).expect("a file");
        command.arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let process = spawn_to_die_with_us(command);
        until("pgbouncer to take connections", SOON, || TcpStream::connect(address).ok());
        Pooler { address, password, process, _folder: folder }
    }

    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://postgres:{}@{}/{database}", self.password, self.address)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// How soon it is noticed depends on which sessions the pool lends: before anything runs, as a rule, else at the next
/// check. What never happens is that two run at once.
#[test]
fn a_session_lock_behind_a_pooler_in_transaction_mode_is_noticed() {
    let server = postgres();
    let database = new_name("pooled");
    server.create_database(&database).expect("a database");
    let pooler = Pooler::start(&server);
    let folder = Folder::new();
    let command = witness(&folder.0, std::time::Duration::from_millis(600));
    let mut noticed = 0;
    let mut end = |starter: Running| {
        let ended = starter.wait();
        assert!(matches!(ended.code, Some(0 | 75 | 78)), "{ended:?}");
        noticed += usize::from(ended.output.contains("use --lock-table NAME"));
    };
    let start = |key: &str, lock: &str| {
        let arguments = ["--once", key, "--lock-name", lock, "--lock-wait", "5s"];
        start(&pooler.url_of(&database), &arguments, &command)
    };
    // A lock may stay in the pool, so each has one of its own.
    for lock in ["a", "b", "c"] {
        end(start("v1", lock));
    }
    let many: Vec<_> = (0..12).map(|_| start("v2", "d")).collect();
    many.into_iter().for_each(&mut end);
    assert!(noticed > 0, "nobody noticed the pooler");
    assert_apart(&folder);
}

#[test]
fn a_session_lock_behind_a_pooler_in_session_mode_holds() {
    let server = postgres();
    let database = new_name("sessions");
    server.create_database(&database).expect("a database");
    let pooler = Pooler::start_in("session", &server);
    let folder = Folder::new();
    let command = witness(&folder.0, std::time::Duration::from_millis(500));
    let starters: Vec<_> = (0..3).map(|_| start(&pooler.url_of(&database), &["--once", "v1"], &command)).collect();
    for starter in starters {
        let ended = starter.wait();
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    assert_eq!(folder.lines("started").len(), 1);
}
