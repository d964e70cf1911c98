//! Certificates as cert-manager issues them, and folders that change as a kubelet changes them.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
    date_time_ymd,
};

/// A certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub certificate: String,
}

impl Authority {
    pub fn new() -> Authority {
        let key = KeyPair::generate().expect("a key");
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let certificate = parameters.self_signed(&key).expect("a certificate").pem();
        Authority { issuer: Issuer::new(parameters, key), certificate }
    }

    /// Its key.
    pub fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A leaf for these addresses: its certificate and key.
    pub fn issue(&self, addresses: &[IpAddr]) -> (String, String) {
        self.sign(addresses, CertificateParams::new(vec!["localhost".to_owned()]).expect("a name"))
    }

    /// A leaf for this name alone, which is its subject too: OpenSSL takes one whose subject is its issuer's for self-signed.
    pub fn issue_for(&self, name: &str) -> (String, String) {
        let mut parameters = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        parameters.distinguished_name = DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, name);
        self.sign(&[], parameters)
    }

    /// One whose time is over.
    pub fn issue_expired(&self, addresses: &[IpAddr]) -> (String, String) {
        let mut parameters = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        (parameters.not_before, parameters.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        self.sign(addresses, parameters)
    }

    fn sign(&self, addresses: &[IpAddr], mut parameters: CertificateParams) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        parameters.subject_alt_names.extend(addresses.iter().map(|address| SanType::IpAddress(*address)));
        let certificate = parameters.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }
}

/// What a caBundle holds: the certificates of these authorities.
pub fn bundle(authorities: &[&Authority]) -> String {
    let all: String = authorities.iter().map(|authority| authority.certificate.as_str()).collect();
    STANDARD.encode(all)
}

/// A folder as the kubelet's atomic writer makes it: `..data` points to a folder of one generation, and the files point
/// through it. Source: k8s.io/kubernetes/pkg/volume/util/atomic_writer.go.
pub struct Secret {
    folder: PathBuf,
    generation: u64,
}

impl Secret {
    pub fn new(folder: PathBuf, pair: &(String, String)) -> Secret {
        fs::create_dir_all(&folder).expect("a folder");
        let mut secret = Secret { folder, generation: 0 };
        secret.swap(pair);
        for file in ["tls.crt", "tls.key"] {
            symlink(Path::new("..data").join(file), secret.folder.join(file)).expect("a link");
        }
        secret
    }

    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Writes a new generation, swaps it in, and removes the old one.
    pub fn swap(&mut self, (certificate, key): &(String, String)) {
        self.generation += 1;
        let generation = format!("..{}", self.generation);
        let folder = self.folder.join(&generation);
        fs::create_dir(&folder).expect("a folder");
        fs::write(folder.join("tls.crt"), certificate).expect("a file");
        fs::write(folder.join("tls.key"), key).expect("a file");
        let old = fs::read_link(self.folder.join("..data")).ok();
        symlink(&generation, self.folder.join("..data_tmp")).expect("a link");
        fs::rename(self.folder.join("..data_tmp"), self.folder.join("..data")).expect("a swap");
        if let Some(old) = old {
            fs::remove_dir_all(self.folder.join(old)).expect("the old generation");
        }
    }
}
