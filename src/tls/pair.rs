//! A certificate and its key: read from a folder, and found fit to serve with.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_cert::Certificate;
use x509_cert::der::Decode;

/// The file names in a Secret of type kubernetes.io/tls.
const CERTIFICATE_FILE: &str = "tls.crt";
const KEY_FILE: &str = "tls.key";

/// The symbolic link to the folder with the current files, which the kubelet swaps when a mounted Secret changes.
const CURRENT_FOLDER: &str = "..data";

/// The bytes that each of the two files may have. A chain of ten RSA certificates needs a quarter of it; a Secret may
/// have 1 MiB.
const FILE_BYTES: u64 = 64 << 10;

/// The time that our clock may be behind the issuer's: a certificate is used from the moment that it is issued.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// Why a folder's contents can't serve.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// A file can't be read.
    #[error("can't read {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A file is larger than any certificate or key.
    #[error("{} has more than {FILE_BYTES} bytes; the certificate's chain and its key have fewer", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A file is not the PEM that it should be.
    #[error("{} holds no {expected} in PEM: {error}", path.display())]
    NoPem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// What the parser found instead.
        error: PemError,
    },
    /// The first certificate isn't one.
    #[error("the first certificate of {} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        reason: String,
    },
    /// The key is of a kind that TLS has no use for.
    #[error("the key in {} can't be used: {reason}; use ECDSA (P-256, P-384), RSA or Ed25519", path.display())]
    UnusableKey {
        /// The file.
        path: PathBuf,
        /// What the library says.
        reason: String,
    },
    /// The key is another certificate's.
    #[error("the key in {} doesn't belong to the first certificate of {CERTIFICATE_FILE} beside it: {reason}", path.display())]
    Mismatch {
        /// The key's file.
        path: PathBuf,
        /// What the library says.
        reason: String,
    },
    /// The certificate's time is over.
    #[error("the certificate in {} expired at {not_after}", path.display())]
    Expired {
        /// The file.
        path: PathBuf,
        /// When it expired.
        not_after: Timestamp,
    },
    /// The certificate's time has not come.
    #[error("the certificate in {} is not valid before {not_before}", path.display())]
    Early {
        /// The file.
        path: PathBuf,
        /// When it becomes valid.
        not_before: Timestamp,
    },
}

/// The bytes of the two files, which belong together where a kubelet wrote them.
#[derive(Clone, PartialEq, Eq)]
pub struct Contents {
    folder: PathBuf,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// A certificate that is valid, with its key.
#[derive(Clone, Debug)]
pub struct Pair {
    /// What the handshake uses.
    pub certified: Arc<CertifiedKey>,
    /// When the certificate expires.
    pub not_after: Timestamp,
}

impl Contents {
    /// Reads the two files.
    ///
    /// In a mounted Secret both are read from the folder that `..data` points to, so that a swap between the two reads
    /// can't pair a certificate with another one's key.
    ///
    /// # Errors
    /// [`Unfit::Unreadable`], [`Unfit::TooLarge`].
    pub fn read(folder: &Path) -> Result<Contents, Unfit> {
        let first = Contents::read_now(folder);
        match first {
            // The kubelet removes the old folder right after the swap; the new one is there by then.
            Err(Unfit::Unreadable { .. }) => Contents::read_now(folder),
            _ => first,
        }
    }

    fn read_now(folder: &Path) -> Result<Contents, Unfit> {
        let current = fs::canonicalize(folder.join(CURRENT_FOLDER)).unwrap_or_else(|_| folder.to_owned());
        Ok(Contents {
            folder: folder.to_owned(),
            certificate: read_file(&current.join(CERTIFICATE_FILE), &folder.join(CERTIFICATE_FILE))?,
            key: read_file(&current.join(KEY_FILE), &folder.join(KEY_FILE))?,
        })
    }

    /// Parses the files, and checks that they belong together and that the certificate is valid `now`.
    ///
    /// # Errors
    /// What keeps them from serving.
    pub fn parse(&self, now: Timestamp) -> Result<Pair, Unfit> {
        let path = self.folder.join(CERTIFICATE_FILE);
        let no_certificate = |error| Unfit::NoPem { path: path.clone(), expected: "certificate", error };
        let chain =
            CertificateDer::pem_slice_iter(&self.certificate).collect::<Result<Vec<_>, _>>().map_err(no_certificate)?;
        let first = chain.first().ok_or_else(|| no_certificate(PemError::NoItemsFound))?;
        let damaged = |reason: String| Unfit::Damaged { path: path.clone(), reason };
        let parsed = Certificate::from_der(first).map_err(|error| damaged(error.to_string()))?;
        let validity = *parsed.tbs_certificate().validity();
        let timestamp = |time: x509_cert::time::Time| {
            let since_1970 = SignedDuration::try_from(time.to_unix_duration()).unwrap_or(SignedDuration::MAX);
            Timestamp::from_duration(since_1970).unwrap_or(Timestamp::MAX)
        };
        let certified = Arc::new(self.certified(chain)?);
        let (not_before, not_after) = (timestamp(validity.not_before), timestamp(validity.not_after));
        if not_after < now {
            return Err(Unfit::Expired { path, not_after });
        }
        if now.saturating_add(CLOCK_SKEW).is_ok_and(|soon| soon < not_before) {
            return Err(Unfit::Early { path, not_before });
        }
        Ok(Pair { certified, not_after })
    }

    /// The chain with its key, if the key is the first certificate's.
    fn certified(&self, chain: Vec<CertificateDer<'static>>) -> Result<CertifiedKey, Unfit> {
        let path = self.folder.join(KEY_FILE);
        let key = match PrivateKeyDer::from_pem_slice(&self.key) {
            Ok(key) => key,
            Err(error) => return Err(Unfit::NoPem { path, expected: "private key", error }),
        };
        let key = match any_supported_type(&key) {
            Ok(key) => key,
            Err(error) => return Err(Unfit::UnusableKey { path, reason: error.to_string() }),
        };
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) => Ok(certified),
            Err(error) => Err(Unfit::Mismatch { path, reason: error.to_string() }),
        }
    }
}

/// Reads `path`; errors name it as `shown`, the name that the operator knows.
fn read_file(path: &Path, shown: &Path) -> Result<Vec<u8>, Unfit> {
    let unreadable = |error| Unfit::Unreadable { path: shown.to_owned(), error };
    let mut bytes = Vec::new();
    let mut file = File::open(path).map_err(unreadable)?.take(FILE_BYTES + 1);
    file.read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(Unfit::TooLarge { path: shown.to_owned() });
    }
    Ok(bytes)
}
