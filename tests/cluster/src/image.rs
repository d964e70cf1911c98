//! Container images without a container engine: an OCI layout in a tar archive.
//!
//! The same files always give the same bytes: no times, no names of users, entries in the order of their
//! paths.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::error::{At, Error, Result};

/// An image from files of this machine.
#[derive(Debug, Clone)]
pub struct Image {
    name: String,
    entries: BTreeMap<String, Entry>,
    config: Value,
}

#[derive(Debug, Clone)]
enum Entry {
    Folder { mode: u32 },
    File { from: PathBuf, mode: u32 },
    Text { text: Vec<u8>, mode: u32 },
    Link { target: String },
}

impl Image {
    /// An empty image with its full name, such as `docker.io/local/service:1`. Not `:latest`, which kubelets
    /// would try to pull.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), entries: BTreeMap::new(), config: json!({"Env": ["PATH=/usr/bin:/bin"]}) }
    }

    /// Adds a file of this machine.
    #[must_use]
    pub fn file(self, path: &str, from: impl Into<PathBuf>, mode: u32) -> Self {
        self.entry(path, Entry::File { from: from.into(), mode })
    }

    /// Adds a file with this content.
    #[must_use]
    pub fn text(self, path: &str, text: impl Into<Vec<u8>>, mode: u32) -> Self {
        self.entry(path, Entry::Text { text: text.into(), mode })
    }

    /// Adds an empty folder. Folders that hold something are added by themselves, with mode 0755.
    #[must_use]
    pub fn folder(self, path: &str, mode: u32) -> Self {
        self.entry(path, Entry::Folder { mode })
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn link(self, path: &str, target: &str) -> Self {
        self.entry(path, Entry::Link { target: target.to_owned() })
    }

    /// What is run when a pod names no command.
    #[must_use]
    pub fn entrypoint<I: Into<String>>(mut self, words: impl IntoIterator<Item = I>) -> Self {
        self.config["Entrypoint"] = words.into_iter().map(Into::into).collect::<Vec<String>>().into();
        self
    }

    /// The arguments of the entry point when a pod names none.
    #[must_use]
    pub fn command<I: Into<String>>(mut self, words: impl IntoIterator<Item = I>) -> Self {
        self.config["Cmd"] = words.into_iter().map(Into::into).collect::<Vec<String>>().into();
        self
    }

    /// As whom it runs, such as `65532:65532`.
    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        self.config["User"] = user.into();
        self
    }

    /// Its full name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn entry(mut self, path: &str, entry: Entry) -> Self {
        let path = path.trim_matches('/');
        for (index, _) in path.match_indices('/') {
            self.entries.entry(path[..index].to_owned()).or_insert(Entry::Folder { mode: 0o755 });
        }
        self.entries.insert(path.to_owned(), entry);
        self
    }

    /// Writes the image.
    ///
    /// # Errors
    /// When one of its files can't be read or the archive can't be written.
    pub fn build(&self, archive: &Path) -> Result<()> {
        let layer = self.layer()?;
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
        })
        .to_string();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes()),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
        })
        .to_string();
        let mut top = descriptor(MANIFEST, manifest.as_bytes());
        top["annotations"] = json!({"io.containerd.image.name": self.name});
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [top],
        });
        let mut tar = Tar::default();
        tar.add("oci-layout", Kind::File, 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        tar.add("index.json", Kind::File, 0o644, index.to_string().as_bytes())?;
        for blob in [layer.as_slice(), config.as_bytes(), manifest.as_bytes()] {
            tar.add(&format!("blobs/sha256/{}", hex(&Sha256::digest(blob))), Kind::File, 0o644, blob)?;
        }
        fs::write(archive, tar.finish()).at(archive)
    }

    fn layer(&self) -> Result<Vec<u8>> {
        let mut tar = Tar::default();
        for (path, entry) in &self.entries {
            match entry {
                Entry::Folder { mode } => tar.add(&format!("{path}/"), Kind::Folder, *mode, &[])?,
                Entry::File { from, mode } => tar.add(path, Kind::File, *mode, &fs::read(from).at(from)?)?,
                Entry::Text { text, mode } => tar.add(path, Kind::File, *mode, text)?,
                Entry::Link { target } => tar.add(path, Kind::Link(target), 0o777, &[])?,
            }
        }
        Ok(tar.finish())
    }
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn descriptor(kind: &str, blob: &[u8]) -> Value {
    json!({"mediaType": kind, "digest": digest(blob), "size": blob.len()})
}

fn digest(blob: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(blob)))
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    }
}

enum Kind<'a> {
    File,
    Folder,
    Link(&'a str),
}

/// A tar archive (ustar) in memory.
#[derive(Default)]
struct Tar {
    bytes: Vec<u8>,
}

impl Tar {
    fn add(&mut self, name: &str, kind: Kind<'_>, mode: u32, content: &[u8]) -> Result<()> {
        const BLOCK: usize = 512;
        let mut header = [0_u8; BLOCK];
        let mut put = |at: usize, size: usize, value: &[u8]| {
            if value.len() > size {
                return Err(Error::Invalid(format!("{name}: too long for a tar archive ({size} bytes)")));
            }
            header[at..at + value.len()].copy_from_slice(value);
            Ok(())
        };
        let (kind, target) = match kind {
            Kind::File => (b"0", ""),
            Kind::Folder => (b"5", ""),
            Kind::Link(target) => (b"2", target),
        };
        put(0, 100, name.as_bytes())?;
        put(100, 8, format!("{mode:07o}").as_bytes())?;
        put(108, 8, b"0000000")?;
        put(116, 8, b"0000000")?;
        put(124, 12, format!("{:011o}", content.len()).as_bytes())?;
        put(136, 12, b"00000000000")?;
        put(148, 8, b"        ")?;
        put(156, 1, kind)?;
        put(157, 100, target.as_bytes())?;
        put(257, 8, b"ustar\x0000")?;
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.bytes.extend_from_slice(&header);
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
        Ok(())
    }

    fn finish(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&[0; 1024]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command;
    use std::process::Command;

    fn sample() -> Image {
        Image::new("docker.io/local/sample:1")
            .text("/etc/greeting", "hello\n", 0o640)
            .link("/bin/sh", "busybox")
            .folder("/tmp", 0o1777)
            .entrypoint(["/bin/sh"])
            .user("65532:65532")
    }

    #[test]
    fn a_layer_is_an_archive_that_tar_reads() {
        let folder = std::env::temp_dir().join(format!("testcluster-layer-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("the temporary folder is writable");
        let file = folder.join("layer.tar");
        fs::write(&file, sample().layer().expect("its files are here")).expect("the folder is there");
        let listing = command::run(Command::new("tar").arg("-tvf").arg(&file).env("TZ", "UTC")).expect("tar reads it");
        let shown: Vec<(&str, String)> = listing
            .lines()
            .map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                (words[0], words[5..].join(" "))
            })
            .collect();
        let wanted = [
            ("drwxr-xr-x", "bin/"),
            ("lrwxrwxrwx", "bin/sh -> busybox"),
            ("drwxr-xr-x", "etc/"),
            ("-rw-r-----", "etc/greeting"),
            ("drwxrwxrwt", "tmp/"),
        ];
        assert_eq!(shown, wanted.map(|(mode, name)| (mode, name.to_owned())));
        fs::remove_dir_all(folder).expect("it is ours");
    }

    #[test]
    fn the_same_files_give_the_same_image() {
        let folder = std::env::temp_dir().join(format!("testcluster-image-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("the temporary folder is writable");
        let built = |name: &str| {
            let file = folder.join(name);
            sample().build(&file).expect("its files are here");
            fs::read(file).expect("it was just written")
        };
        let (one, two) = (built("one"), built("two"));
        assert!(one == two);
        let text = String::from_utf8_lossy(&one);
        assert!(text.contains(r#""io.containerd.image.name":"docker.io/local/sample:1""#));
        assert!(text.contains(r#""User":"65532:65532""#));
        fs::remove_dir_all(folder).expect("it is ours");
    }

    #[test]
    fn a_name_that_does_not_fit_is_refused() {
        let image = Image::new("docker.io/local/long:1").text(&"x".repeat(101), "", 0o644);
        assert!(image.layer().is_err());
    }
}
