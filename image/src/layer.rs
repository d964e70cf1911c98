//! The file system of an image: one layer, a tar archive.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

use crate::{Error, Result};

#[derive(Debug, Clone)]
pub(crate) enum Entry {
    Folder { mode: u32 },
    File { from: PathBuf, mode: u32 },
    Text { text: Vec<u8>, mode: u32 },
    Link { target: PathBuf },
}

/// What is at which path. Sorted, so that a folder comes before what it holds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layer(BTreeMap<String, Entry>);

impl Layer {
    /// Adds an entry, and the folders above it that aren't there.
    pub(crate) fn add(&mut self, path: &str, entry: Entry) {
        let path = path.trim_matches('/');
        for (index, _) in path.match_indices('/') {
            self.0.entry(path[..index].to_owned()).or_insert(Entry::Folder { mode: 0o755 });
        }
        self.0.insert(path.to_owned(), entry);
    }

    /// The archive.
    pub(crate) fn tar(&self) -> Result<Vec<u8>> {
        let mut tar = Builder::new(Vec::new());
        for (path, entry) in &self.0 {
            match entry {
                Entry::Folder { mode } => {
                    let mut header = header(EntryType::Directory, *mode, 0);
                    tar.append_data(&mut header, format!("{path}/"), io::empty())?;
                }
                Entry::File { from, mode } => {
                    let content = fs::read(from).map_err(|source| Error::File { path: from.clone(), source })?;
                    append_file(&mut tar, path, &content, *mode)?;
                }
                Entry::Text { text, mode } => append_file(&mut tar, path, text, *mode)?,
                Entry::Link { target } => {
                    let mut header = header(EntryType::Symlink, 0o777, 0);
                    tar.append_link(&mut header, path, target)?;
                }
            }
        }
        Ok(tar.into_inner()?)
    }
}

/// Adds a file of root's to an archive.
pub(crate) fn append_file(tar: &mut Builder<Vec<u8>>, path: &str, content: &[u8], mode: u32) -> Result<()> {
    let mut header = header(EntryType::Regular, mode, content.len());
    Ok(tar.append_data(&mut header, path, content)?)
}

/// What says the same on every machine: root's, and from 1970.
fn header(kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size as u64);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// Compresses, without a time or a file's name in the result.
pub(crate) fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    gzip.write_all(bytes)?;
    Ok(gzip.finish()?)
}
