//! The modes of TLS, against a server that has a certificate.

use std::fs;
use std::process::Command;

use rcgen::{CertificateParams, KeyPair};
use testcluster::postgres::Server;

use super::mariadb::run;
use super::starter::{Folder, LOOPBACK, SOON, start, until};

#[test]
fn each_sslmode_is_what_it_is_with_libpq() {
    let server = Server::start(LOOPBACK).expect("a server of its own");
    let plain = server.create_database("tls").expect("a database");
    let folder = Folder::new();
    let certificate = |names: &[&str], file: &str| {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let own = CertificateParams::new(names).expect("names").self_signed(&key).expect("a certificate");
        fs::write(folder.file(&format!("{file}.crt")), own.pem()).expect("a file");
        fs::write(folder.file(&format!("{file}.key")), key.serialize_pem()).expect("a file");
    };
    certificate(&["127.0.0.1"], "server");
    certificate(&["127.0.0.1"], "stranger");
    certificate(&["db.example"], "misnamed");
    let use_certificate = |name: &str| {
        let data = server.log().with_file_name("data");
        for suffix in ["crt", "key"] {
            let to = data.join(format!("server.{suffix}"));
            fs::copy(folder.file(&format!("{name}.{suffix}")), &to).expect("a file");
            run(Command::new("chmod").arg("600").arg(&to));
            run(Command::new("chown").arg(format!("--reference={}", data.display())).arg(&to));
        }
        server.psql("ALTER SYSTEM SET ssl = on").expect("a setting");
        server.psql("SELECT pg_reload_conf()").expect("it reads its files again");
    };
    let code = |mode: &str, more: &str| {
        let url = format!("{}{more}", plain.replace("sslmode=disable", &format!("sslmode={mode}")));
        let ended = start(&url, &["--once", "v1"], &["true".to_owned()]).wait();
        assert!(!ended.output.contains("testcluster"), "{ended:?}");
        ended.code
    };
    let root = |name: &str| format!("&sslrootcert={}", folder.file(&format!("{name}.crt")).display());
    assert_eq!((code("disable", ""), code("prefer", ""), code("require", "")), (Some(0), Some(0), Some(78)));
    use_certificate("server");
    until("TLS", SOON, || (code("require", "") == Some(0)).then_some(()));
    assert_eq!((code("prefer", ""), code("disable", "")), (Some(0), Some(0)));
    assert_eq!((code("verify-ca", &root("server")), code("verify-full", &root("server"))), (Some(0), Some(0)));
    for mode in ["verify-ca", "verify-full"] {
        assert_eq!(code(mode, &root("stranger")), Some(78), "{mode}");
    }
    use_certificate("misnamed");
    until("the other certificate", SOON, || (code("verify-ca", &root("misnamed")) == Some(0)).then_some(()));
    assert_eq!(code("verify-full", &root("misnamed")), Some(78));
}
