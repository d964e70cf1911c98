//! The webhook's certificate, followed as it changes.
//!
//! The certificate and its key are two files, `tls.crt` and `tls.key`, in a folder where the kubelet mounts a Secret.
//! cert-manager renews them while we run. The folder is *polled*: a swap of symbolic links reaches a file watch once, or
//! on some file systems never, and two small files read each second cost nothing. What has changed is parsed and checked
//! before it is taken into service, all at once; contents that can't serve are logged and counted once, and the old
//! certificate stays.

mod pair;
#[cfg(test)]
pub(crate) mod test_pair;

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rustls::ServerConfig;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::metrics::CertificateMetrics;
use crate::supervise::Shutdown;
use pair::{Contents, Pair};

pub use pair::Unfit;

/// The time between two looks at the folder. The kubelet itself takes up to a minute to bring a changed Secret.
pub const POLL: Duration = Duration::from_secs(1);

/// The certificate that is served now; the TLS handshakes read it, [`Certificates`] replaces it.
#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// A folder's certificate, in service.
pub struct Certificates {
    folder: PathBuf,
    current: Arc<Current>,
    served: Contents,
    not_after: Timestamp,
    /// What was said last about contents that can't serve, so that it isn't said each second.
    complaint: Option<String>,
    metrics: CertificateMetrics,
}

impl Certificates {
    /// Takes the folder's certificate into service.
    ///
    /// # Errors
    /// Why it can't serve. Without a certificate no API server can call us, so there is nothing to start.
    pub fn open(folder: &Path, metrics: CertificateMetrics) -> Result<Certificates, Unfit> {
        let served = Contents::read(folder)?;
        let Pair { certified, not_after } = served.parse(Timestamp::now())?;
        metrics.not_after.set(not_after.as_second());
        tracing::info!(folder = %folder.display(), %not_after, "certificate in service");
        Ok(Certificates {
            folder: folder.to_owned(),
            current: Arc::new(Current(ArcSwap::new(certified))),
            served,
            not_after,
            complaint: None,
            metrics,
        })
    }

    /// How TLS is spoken with this certificate: versions 1.2 and 1.3, HTTP/1.1, no client certificates, and no
    /// resumption, which the API server doesn't use and which would cost memory for each connection.
    ///
    /// # Errors
    /// The cryptographic library offers none of the protocol versions: a defect of the build.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(self.current.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// Follows the folder, one look each `period`, until the shutdown.
    ///
    /// # Errors
    /// None; whatever the folder holds, the old certificate serves on.
    pub async fn follow(mut self, period: Duration, shutdown: Shutdown) -> Result<(), Infallible> {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.requested() => return Ok(()),
                _ = ticks.tick() => self.look(Timestamp::now()),
            }
        }
    }

    /// Looks at the folder once. It is a matter of microseconds, so it is done in place.
    fn look(&mut self, now: Timestamp) {
        match Contents::read(&self.folder) {
            Ok(contents) if contents == self.served => {
                if now > self.not_after {
                    self.complain(format!("the served certificate expired at {}", self.not_after));
                } else {
                    self.complaint = None;
                }
            }
            Ok(contents) => match contents.parse(now) {
                Ok(pair) => self.take(contents, pair),
                Err(unfit) => self.complain(unfit.to_string()),
            },
            Err(unfit) => self.complain(unfit.to_string()),
        }
    }

    fn take(&mut self, contents: Contents, pair: Pair) {
        self.current.0.store(pair.certified);
        self.served = contents;
        self.not_after = pair.not_after;
        self.complaint = None;
        self.metrics.not_after.set(pair.not_after.as_second());
        self.metrics.reloads.inc();
        tracing::info!(folder = %self.folder.display(), not_after = %pair.not_after, "certificate reloaded");
    }

    fn complain(&mut self, complaint: String) {
        if self.complaint.as_ref() == Some(&complaint) {
            return;
        }
        self.metrics.errors.inc();
        tracing::error!(folder = %self.folder.display(), reason = complaint, "the old certificate stays in service");
        self.complaint = Some(complaint);
    }
}

#[cfg(test)]
mod tests {
    use super::test_pair::{Issued, Secret};
    use super::*;
    use jiff::SignedDuration;

    fn metrics() -> CertificateMetrics {
        CertificateMetrics::register(crate::metrics::Metrics::new().registry())
    }

    fn served(certificates: &Certificates) -> Vec<u8> {
        certificates.current.0.load().cert[0].to_vec()
    }

    #[test]
    fn a_changed_pair_is_taken_and_each_bad_one_is_counted_once() {
        let (first, second) = (Issued::valid(), Issued::valid());
        let secret = Secret::new(&first.certificate, &first.key);
        let metrics = metrics();
        let mut certificates = Certificates::open(secret.path(), metrics.clone()).expect("a valid pair");
        let now = Timestamp::now();

        let expired = Issued::new(now - SignedDuration::from_hours(2), now - SignedDuration::from_hours(1));
        let early = Issued::new(now + SignedDuration::from_hours(1), now + SignedDuration::from_hours(2));
        let large = first.certificate.repeat(1600);
        assert!(large.len() > 800_000);
        let half = &second.certificate[..second.certificate.len() / 2];
        for (count, (certificate, key, said)) in [
            ("", first.key.as_str(), "holds no certificate"),
            (half, &second.key, "holds no certificate"),
            (&second.certificate, "", "holds no private key"),
            (&second.certificate, &first.key, "doesn't belong"),
            (&expired.certificate, &expired.key, "expired at"),
            (&early.certificate, &early.key, "not valid before"),
            (&large, &first.key, "more than 65536 bytes"),
            (&second.key, &second.key, "holds no certificate"),
            (&second.certificate, &second.certificate, "holds no private key"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &first.key, "is damaged"),
        ]
        .into_iter()
        .enumerate()
        {
            secret.swap(certificate, key);
            for _ in 0..3 {
                certificates.look(now);
            }
            let complaint = certificates.complaint.as_deref().unwrap_or_default();
            assert!(complaint.contains(said), "{said} in {complaint}");
            assert_eq!(served(&certificates), first.der(), "{said}");
            assert_eq!(metrics.errors.get(), count as u64 + 1, "{said}");
            // Say the same of the next state, if it is the same, only after a good one.
            secret.swap(&first.certificate, &first.key);
            certificates.look(now);
            assert_eq!(certificates.complaint, None);
        }
        assert_eq!(metrics.reloads.get(), 0);

        secret.swap(&second.certificate, &second.key);
        certificates.look(now);
        assert_eq!(served(&certificates), second.der());
        assert_eq!(metrics.reloads.get(), 1);
        assert_eq!(metrics.not_after.get(), certificates.not_after.as_second());
    }

    #[test]
    fn a_vanished_folder_changes_nothing() {
        let pair = Issued::valid();
        let secret = Secret::new(&pair.certificate, &pair.key);
        let metrics = metrics();
        let mut certificates = Certificates::open(secret.path(), metrics.clone()).expect("a valid pair");
        drop(secret);
        certificates.look(Timestamp::now());
        assert_eq!(served(&certificates), pair.der());
        assert_eq!(metrics.errors.get(), 1);
    }

    #[test]
    fn the_served_certificates_own_end_is_said_once() {
        let pair = Issued::valid();
        let secret = Secret::new(&pair.certificate, &pair.key);
        let metrics = metrics();
        let mut certificates = Certificates::open(secret.path(), metrics.clone()).expect("a valid pair");
        let after = certificates.not_after + SignedDuration::from_secs(1);
        certificates.look(after);
        certificates.look(after);
        assert_eq!(metrics.errors.get(), 1);
    }

    #[test]
    fn a_folder_without_certificate_says_what_is_missing() {
        let Err(unfit) = Certificates::open(Path::new("/nowhere/tls"), metrics()) else { panic!("no such folder") };
        assert_eq!(unfit.to_string(), "can't read /nowhere/tls/tls.crt: No such file or directory (os error 2)");
    }
}
