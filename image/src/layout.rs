//! An OCI image layout: every part of an image as a file that is named by its digest.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;

use oci_spec::image::{
    Descriptor, Digest as OciDigest, ImageIndexBuilder, MediaType, OciLayoutBuilder, SCHEMA_VERSION, Sha256Digest,
};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::Result;
use crate::layer::append_file;

/// What containerd calls the image when it reads an archive.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// The parts so far, by the digits of their digest.
#[derive(Default)]
pub(crate) struct Layout(BTreeMap<String, Vec<u8>>);

impl Layout {
    /// Adds a part, and returns what refers to it.
    pub(crate) fn blob(&mut self, kind: MediaType, bytes: Vec<u8>) -> Result<Descriptor> {
        let digits = digits(&bytes);
        let digest: OciDigest = Sha256Digest::from_str(&digits)?.into();
        let descriptor = Descriptor::new(kind, bytes.len() as u64, digest);
        self.0.insert(digits, bytes);
        Ok(descriptor)
    }

    /// Adds a part that is a document.
    pub(crate) fn document(&mut self, kind: MediaType, document: &impl Serialize) -> Result<Descriptor> {
        self.blob(kind, json(document)?)
    }

    /// The archive of all parts, of which this is the top one, under this name.
    pub(crate) fn finish(self, mut top: Descriptor, name: &str) -> Result<Vec<u8>> {
        top.set_annotations(Some(HashMap::from([(CONTAINERD_NAME.to_owned(), name.to_owned())])));
        let index = ImageIndexBuilder::default()
            .schema_version(SCHEMA_VERSION)
            .media_type(MediaType::ImageIndex)
            .manifests([top])
            .build()?;
        let marker = OciLayoutBuilder::default().image_layout_version("1.0.0").build()?;
        let mut tar = tar::Builder::new(Vec::new());
        append_file(&mut tar, "oci-layout", &json(&marker)?, 0o644)?;
        append_file(&mut tar, "index.json", &json(&index)?, 0o644)?;
        for (digits, blob) in &self.0 {
            append_file(&mut tar, &format!("blobs/sha256/{digits}"), blob, 0o644)?;
        }
        Ok(tar.into_inner()?)
    }
}

/// As documents refer to bytes.
pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", digits(bytes))
}

fn digits(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A document's bytes. By way of a value, whose keys are sorted: oci-spec keeps labels and annotations in hash maps,
/// which have another order in every process.
fn json(document: &impl Serialize) -> Result<Vec<u8>> {
    let value = serde_json::to_value(document).map_err(std::io::Error::other)?;
    Ok(value.to_string().into_bytes())
}
