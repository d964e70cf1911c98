//! Certificates for tests, and folders that change as a kubelet changes them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, KeyPair};

static NUMBER: AtomicU64 = AtomicU64::new(0);

/// A certificate for `localhost` that signs itself, and its key, in PEM.
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
    der: Vec<u8>,
}

impl Issued {
    /// One that is valid from an hour ago, for a day.
    pub(crate) fn valid() -> Issued {
        let start = Timestamp::now() - SignedDuration::from_hours(1);
        Issued::new(start, start + SignedDuration::from_hours(24))
    }

    /// One with this validity.
    pub(crate) fn new(not_before: Timestamp, not_after: Timestamp) -> Issued {
        let key = KeyPair::generate().expect("a key");
        let mut parameters = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        parameters.not_before = std::time::SystemTime::from(not_before).into();
        parameters.not_after = std::time::SystemTime::from(not_after).into();
        let certificate = parameters.self_signed(&key).expect("a certificate");
        Issued { certificate: certificate.pem(), key: key.serialize_pem(), der: certificate.der().to_vec() }
    }

    /// The certificate's bytes.
    pub(crate) fn der(&self) -> Vec<u8> {
        self.der.clone()
    }
}

/// A folder as the kubelet's atomic writer makes it: `..data` points to a folder of one generation, and the files point
/// through it. Source: k8s.io/kubernetes/pkg/volume/util/atomic_writer.go.
pub(crate) struct Secret(PathBuf);

impl Secret {
    /// A folder with its first generation.
    pub(crate) fn new(certificate: &str, key: &str) -> Secret {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("migration-gate-tls-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        let secret = Secret(path);
        secret.swap(certificate, key);
        for file in ["tls.crt", "tls.key"] {
            symlink(Path::new("..data").join(file), secret.0.join(file)).expect("a link");
        }
        secret
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a new generation, swaps it in, and removes the old one.
    pub(crate) fn swap(&self, certificate: &str, key: &str) {
        let generation = format!("..{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let folder = self.0.join(&generation);
        fs::create_dir(&folder).expect("a folder");
        fs::write(folder.join("tls.crt"), certificate).expect("a file");
        fs::write(folder.join("tls.key"), key).expect("a file");
        let old = fs::read_link(self.0.join("..data")).ok();
        symlink(&generation, self.0.join("..data_tmp")).expect("a link");
        fs::rename(self.0.join("..data_tmp"), self.0.join("..data")).expect("a swap");
        if let Some(old) = old {
            fs::remove_dir_all(self.0.join(old)).expect("the old generation");
        }
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        // Nothing to tell if it is gone already.
        let _ = fs::remove_dir_all(&self.0);
    }
}
