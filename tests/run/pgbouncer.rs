//! A real pgbouncer in transaction mode, from Debian's package.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use testcluster::postgres::Server;

use super::mariadb::{free_address, install, run, spawn_to_die_with_us, unprivileged};
use super::starter::{Folder, SOON, until};

/// A pooler before a server; ends when this is dropped or the test's process dies.
pub struct Pooler {
    address: SocketAddr,
    password: String,
    process: Child,
    _folder: Folder,
}

impl Pooler {
    pub fn start(server: &Server) -> Pooler {
        install("/usr/sbin/pgbouncer", &["pgbouncer"]);
        let folder = Folder::new();
        let (address, target) = (free_address(), server.address());
        let password = server.url().split(['/', ':', '@']).nth(4).expect("the URL has a password").to_owned();
        let users = folder.file("users.txt");
        fs::write(&users, format!("\"postgres\" \"{password}\"\n")).expect("a file");
        let settings = format!(
            "[databases]\n* = host={} port={}\n[pgbouncer]\nlisten_addr = {}\nlisten_port = {}\nunix_socket_dir =\n\
             auth_type = scram-sha-256\nauth_file = {}\npool_mode = transaction\ndefault_pool_size = 5\n\
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
