//! Container images without a container engine: an OCI image layout in a tar archive, for one architecture or for
//! several.
//!
//! The same files always give the same bytes: entries are in the order of their paths, belong to root, and have no
//! times.

mod error;
mod layer;
mod layout;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use oci_spec::image::{
    Arch, Config, Descriptor, ImageConfigurationBuilder, ImageIndexBuilder, ImageManifestBuilder, MediaType, Os,
    PlatformBuilder, RootFsBuilder, SCHEMA_VERSION,
};

pub use error::{Error, Result};
use layer::{Entry, Layer};
use layout::Layout;

/// What a processor is called in an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// x86-64.
    Amd64,
    /// 64-bit Arm.
    Arm64,
}

impl Architecture {
    /// This machine's.
    #[must_use]
    pub fn of_this_machine() -> Architecture {
        if cfg!(target_arch = "aarch64") { Architecture::Arm64 } else { Architecture::Amd64 }
    }

    /// That of a Rust target, such as `aarch64-unknown-linux-gnu`.
    ///
    /// # Errors
    /// For any other processor, and for what isn't Linux.
    pub fn of_target(target: &str) -> Result<Architecture> {
        let linux = target.contains("-linux-");
        match target.split_once('-') {
            Some(("x86_64", _)) if linux => Ok(Architecture::Amd64),
            Some(("aarch64", _)) if linux => Ok(Architecture::Arm64),
            _ => Err(Error::Invalid(format!(
                "{target}: images are made for x86_64 and aarch64 Linux, such as aarch64-unknown-linux-gnu"
            ))),
        }
    }
}

impl From<Architecture> for Arch {
    fn from(architecture: Architecture) -> Arch {
        match architecture {
            Architecture::Amd64 => Arch::Amd64,
            Architecture::Arm64 => Arch::ARM64,
        }
    }
}

/// An image from files of this machine.
#[derive(Debug, Clone)]
pub struct Image {
    name: String,
    architecture: Architecture,
    layer: Layer,
    config: Config,
    created: Option<String>,
    compressed: bool,
}

impl Image {
    /// An empty image for this machine's architecture, with its full name, such as `docker.io/local/service:1`. Not
    /// `:latest`, which kubelets would try to pull.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        let mut config = Config::default();
        config.set_env(Some(vec!["PATH=/usr/bin:/bin".to_owned()]));
        Self {
            name: name.into(),
            architecture: Architecture::of_this_machine(),
            layer: Layer::default(),
            config,
            created: None,
            compressed: false,
        }
    }

    /// For another architecture than this machine's.
    #[must_use]
    pub fn architecture(mut self, architecture: Architecture) -> Self {
        self.architecture = architecture;
        self
    }

    /// Adds a file of this machine.
    #[must_use]
    pub fn file(mut self, path: &str, from: impl Into<PathBuf>, mode: u32) -> Self {
        self.layer.add(path, Entry::File { from: from.into(), mode });
        self
    }

    /// Adds a file with this content.
    #[must_use]
    pub fn text(mut self, path: &str, text: impl Into<Vec<u8>>, mode: u32) -> Self {
        self.layer.add(path, Entry::Text { text: text.into(), mode });
        self
    }

    /// Adds an empty folder. Folders that hold something are added by themselves, with mode 0755.
    #[must_use]
    pub fn folder(mut self, path: &str, mode: u32) -> Self {
        self.layer.add(path, Entry::Folder { mode });
        self
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn link(mut self, path: &str, target: &str) -> Self {
        self.layer.add(path, Entry::Link { target: target.into() });
        self
    }

    /// What is run when a pod names no command.
    #[must_use]
    pub fn entrypoint<I: Into<String>>(mut self, words: impl IntoIterator<Item = I>) -> Self {
        self.config.set_entrypoint(Some(words.into_iter().map(Into::into).collect()));
        self
    }

    /// The arguments of the entry point when a pod names none.
    #[must_use]
    pub fn command<I: Into<String>>(mut self, words: impl IntoIterator<Item = I>) -> Self {
        self.config.set_cmd(Some(words.into_iter().map(Into::into).collect()));
        self
    }

    /// As whom it runs, such as `65532:65532`.
    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        self.config.set_user(Some(user.to_owned()));
        self
    }

    /// A label, such as `org.opencontainers.image.title`; the manifest and the index have it as an annotation.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        let mut labels = self.config.labels().clone().unwrap_or_default();
        labels.insert(key.into(), value.into());
        self.config.set_labels(Some(labels));
        self
    }

    /// When it was made, as in RFC 3339: for reproducible images the time of the commit.
    #[must_use]
    pub fn created(mut self, time: impl Into<String>) -> Self {
        self.created = Some(time.into());
        self
    }

    /// Compresses the layer, as images for registries are. Otherwise it isn't, which is faster where the image stays on
    /// this machine.
    #[must_use]
    pub fn compressed(mut self) -> Self {
        self.compressed = true;
        self
    }

    /// Its full name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn labels(&self) -> HashMap<String, String> {
        self.config.labels().clone().unwrap_or_default()
    }

    /// Writes the image.
    ///
    /// # Errors
    /// When one of its files can't be read or the archive can't be written.
    pub fn build(&self, archive: &Path) -> Result<()> {
        let mut layout = Layout::default();
        let manifest = self.put(&mut layout)?;
        write(&layout.finish(manifest, &self.name)?, archive)
    }

    /// Adds its layer, its configuration and its manifest to a layout; returns what refers to the manifest.
    fn put(&self, layout: &mut Layout) -> Result<Descriptor> {
        let tar = self.layer.tar()?;
        let uncompressed = layout::digest(&tar);
        let layer = if self.compressed {
            layout.blob(MediaType::ImageLayerGzip, layer::gzip(&tar)?)?
        } else {
            layout.blob(MediaType::ImageLayer, tar)?
        };
        let content = RootFsBuilder::default().typ("layers").diff_ids([uncompressed]).build()?;
        let mut configuration = ImageConfigurationBuilder::default()
            .architecture(self.architecture)
            .os(Os::Linux)
            .config(self.config.clone())
            .rootfs(content)
            .history([])
            .build()?;
        configuration.set_created(self.created.clone());
        let config = layout.document(MediaType::ImageConfig, &configuration)?;
        let manifest = ImageManifestBuilder::default()
            .schema_version(SCHEMA_VERSION)
            .media_type(MediaType::ImageManifest)
            .config(config)
            .layers([layer])
            .annotations(self.labels())
            .build()?;
        let mut manifest = layout.document(MediaType::ImageManifest, &manifest)?;
        let platform = PlatformBuilder::default().architecture(self.architecture).os(Os::Linux).build()?;
        manifest.set_platform(Some(platform));
        Ok(manifest)
    }
}

/// Writes one image for several architectures: an index, from which each node takes its own. Name and annotations are
/// the first one's.
///
/// # Errors
/// When there is none, or two for the same architecture; when a file can't be read or the archive can't be written.
pub fn build_index(images: &[Image], archive: &Path) -> Result<()> {
    let Some(first) = images.first() else {
        return Err(Error::Invalid("an index needs an image for at least one architecture".to_owned()));
    };
    let mut layout = Layout::default();
    let mut manifests = Vec::new();
    for (place, image) in images.iter().enumerate() {
        if images[..place].iter().any(|other| other.architecture == image.architecture) {
            return Err(Error::Invalid(format!("two images for {}", Arch::from(image.architecture))));
        }
        manifests.push(image.put(&mut layout)?);
    }
    let index = ImageIndexBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageIndex)
        .manifests(manifests)
        .annotations(first.labels())
        .build()?;
    let index = layout.document(MediaType::ImageIndex, &index)?;
    write(&layout.finish(index, &first.name)?, archive)
}

fn write(bytes: &[u8], archive: &Path) -> Result<()> {
    fs::write(archive, bytes).map_err(|source| Error::File { path: archive.to_owned(), source })
}

#[cfg(test)]
mod tests;
