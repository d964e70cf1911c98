//! Certificates and kubeconfigs: one authority for each cluster, made anew at each boot.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use serde_json::json;

use crate::error::{At, Error, Result};

/// The authority of one cluster and the folder that holds its files.
pub(crate) struct Authority {
    folder: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key as files.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// Two keys as files.
#[derive(Debug, Clone)]
pub(crate) struct SigningKeys {
    pub(crate) private: PathBuf,
    pub(crate) public: PathBuf,
}

/// Whom a client certificate stands for.
pub(crate) struct User<'a> {
    pub(crate) name: &'a str,
    pub(crate) group: Option<&'a str>,
}

impl Authority {
    /// Makes the authority and writes its certificate to `ca.crt` in `folder`.
    pub(crate) fn create(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).at(folder)?;
        let mut params = named("testcluster", None)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().map_err(failed)?).map_err(failed)?;
        write(&folder.join("ca.crt"), &issuer.pem())?;
        Ok(Self { folder: folder.to_owned(), issuer })
    }

    /// The file with the authority's certificate.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// A certificate for a server with these names and addresses.
    pub(crate) fn server(&self, file: &str, names: &[&str]) -> Result<Pair> {
        let mut params = named(names.first().unwrap_or(&file), None)?;
        let names = CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        params.subject_alt_names = names.map_err(failed)?.subject_alt_names;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(file, params)
    }

    /// A certificate for a client.
    pub(crate) fn client(&self, file: &str, user: &User<'_>) -> Result<Pair> {
        let mut params = named(user.name, user.group)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(file, params)
    }

    /// A pair of keys without a certificate: service accounts' tokens are signed with it.
    pub(crate) fn signing_keys(&self, file: &str) -> Result<SigningKeys> {
        let keys = KeyPair::generate().map_err(failed)?;
        let paths = SigningKeys {
            private: self.folder.join(format!("{file}.key")),
            public: self.folder.join(format!("{file}.pub")),
        };
        write(&paths.private, &keys.serialize_pem())?;
        write(&paths.public, &keys.public_key_pem())?;
        Ok(paths)
    }

    /// A kubeconfig that is complete in itself, so that it can be copied.
    pub(crate) fn kubeconfig(&self, path: &Path, server: &str, user: &User<'_>) -> Result<()> {
        let file = format!("{}-client", user.name.replace(':', "-"));
        let pair = self.client(&file, user)?;
        let data = |path: &Path| fs::read(path).at(path).map(|bytes| base64(&bytes));
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "testcluster", "cluster": {
                "server": server,
                "certificate-authority-data": data(&self.certificate())?,
            }}],
            "users": [{"name": user.name, "user": {
                "client-certificate-data": data(&pair.certificate)?,
                "client-key-data": data(&pair.key)?,
            }}],
            "contexts": [{"name": "testcluster", "context": {"cluster": "testcluster", "user": user.name}}],
            "current-context": "testcluster",
        });
        write(path, &format!("{config:#}\n"))
    }

    fn sign(&self, file: &str, mut params: CertificateParams) -> Result<Pair> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        let pair =
            Pair { certificate: self.folder.join(format!("{file}.crt")), key: self.folder.join(format!("{file}.key")) };
        write(&pair.certificate, &certificate.pem())?;
        write(&pair.key, &key.serialize_pem())?;
        Ok(pair)
    }
}

fn named(name: &str, group: Option<&str>) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new()).map_err(failed)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(group) = group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    Ok(params)
}

fn failed(error: rcgen::Error) -> Error {
    Error::Invalid(format!("a certificate could not be made: {error}"))
}

/// Writes a file that only its owner may read.
fn write(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    let file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).at(path)
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let group = at(0) << 16 | at(1) << 8 | at(2);
        for position in 0..4 {
            if position <= chunk.len() {
                text.push(char::from(DIGITS[(group >> (18 - 6 * position) & 63) as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_as_everywhere() {
        for (plain, encoded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }
}
