//! Manifests: files of Kubernetes objects, read so that what isn't changed is written back as it was.
//!
//! A file holds documents: YAML between lines of `---`, or JSON values one after the other. An object in a document may
//! be a List of objects. A document is written anew only if an object in it was changed; then its comments are lost, but
//! for those above it, where `helm template` names its source.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// One document of a file.
#[derive(Debug)]
pub(super) struct Document {
    /// Where it comes from.
    pub(super) place: Place,
    /// As it was read.
    text: String,
    form: Form,
    /// What is in it; null, if nothing but comments.
    pub(super) value: Value,
    /// Whether the value was changed since.
    pub(super) has_changed: bool,
}

/// Where a document comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The file; `-` for standard input.
    file: String,
    /// The document in it, from 1.
    number: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: document {}", self.file, self.number)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    Yaml,
}

/// Why manifests can't be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ManifestError {
    #[error("{}: {error}", .path.display())]
    Read { path: PathBuf, error: std::io::Error },
    #[error("{}: there is no .yaml, .yml or .json file in this folder", .0.display())]
    Empty(PathBuf),
    #[error("{0}: {1}")]
    Syntax(Place, String),
}

/// Reads files, folders and, for `-`, standard input, in the order given; a folder's files by name, without those in
/// folders below it, as `kubectl` does.
///
/// # Errors
/// For the first that can't be read, or isn't YAML or JSON.
pub(super) fn read(paths: &[PathBuf]) -> Result<Vec<Document>, ManifestError> {
    let mut documents = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            read.map_err(|error| ManifestError::Read { path: path.clone(), error })?;
            documents.extend(parse("-", &text)?);
            continue;
        }
        for file in files(path)? {
            let text =
                std::fs::read_to_string(&file).map_err(|error| ManifestError::Read { path: file.clone(), error })?;
            documents.extend(parse(&file.display().to_string(), &text)?);
        }
    }
    Ok(documents)
}

/// The file itself, or the manifests of a folder.
fn files(path: &Path) -> Result<Vec<PathBuf>, ManifestError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let failed = |error| ManifestError::Read { path: path.to_owned(), error };
    let entries = std::fs::read_dir(path).map_err(failed)?;
    let mut files = Vec::new();
    for entry in entries {
        let file = entry.map_err(failed)?.path();
        let extension = file.extension().and_then(|extension| extension.to_str());
        if matches!(extension, Some("yaml" | "yml" | "json")) && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() { Err(ManifestError::Empty(path.to_owned())) } else { Ok(files) }
}

/// Splits a file's text into its documents and reads each.
fn parse(file: &str, text: &str) -> Result<Vec<Document>, ManifestError> {
    if let Some(documents) = parse_json(file, text) {
        return Ok(documents);
    }
    let chunks = split_yaml(text.strip_prefix('\u{feff}').unwrap_or(text));
    let documents = chunks.into_iter().zip(1..).map(|(text, number)| {
        let place = Place { file: file.to_owned(), number };
        let value = if has_content(&text) { parse_yaml(&text) } else { Ok(Value::Null) };
        let value = value.map_err(|error| ManifestError::Syntax(place.clone(), error))?;
        Ok(Document { place, text, form: Form::Yaml, value, has_changed: false })
    });
    documents.collect()
}

/// Reads a text that is JSON throughout; `None` if it isn't.
fn parse_json(file: &str, text: &str) -> Option<Vec<Document>> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let mut documents = Vec::new();
    let mut from = 0;
    while let Some(value) = values.next() {
        let to = values.byte_offset();
        let place = Place { file: file.to_owned(), number: documents.len() + 1 };
        let text = text.get(from..to)?.trim().to_owned();
        documents.push(Document { place, text, form: Form::Json, value: value.ok()?, has_changed: false });
        from = to;
    }
    Some(documents)
}

/// Splits at the lines that begin a document. Such a line can't be part of a value: those are indented.
fn split_yaml(text: &str) -> Vec<String> {
    let mut chunks = vec![String::new()];
    for line in text.split_inclusive('\n') {
        let rest = line.strip_prefix("---").filter(|rest| rest.trim().is_empty() || rest.starts_with([' ', '\t']));
        match (rest, chunks.last_mut()) {
            (Some(rest), _) => {
                chunks.push(if rest.trim().is_empty() { String::new() } else { rest.trim_start().to_owned() })
            }
            (None, Some(chunk)) => chunk.push_str(line),
            (None, None) => {}
        }
    }
    // What stands before the first line of dashes is a document only if there is something in it.
    if chunks.len() > 1 && chunks[0].trim().is_empty() {
        chunks.remove(0);
    }
    chunks
}

/// Whether there is more than comments, directives and end marks.
fn has_content(text: &str) -> bool {
    let is_content = |line: &str| !(line.is_empty() || line.starts_with(['#', '%']) || line == "...");
    text.lines().map(str::trim).any(is_content)
}

/// Reads one document as `kubectl` does: with the booleans and octal numbers of YAML 1.1.
fn parse_yaml(text: &str) -> Result<Value, String> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true, with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())
}

impl Document {
    /// The objects in it, by themselves or in lists, each with its place in the list.
    pub(super) fn objects(&mut self) -> Vec<&mut Value> {
        let mut objects = Vec::new();
        collect(&mut self.value, &mut objects);
        objects
    }

    fn rewritten(&self) -> Result<String, String> {
        match self.form {
            Form::Json => serde_json::to_string_pretty(&self.value).map_err(|error| error.to_string()),
            Form::Yaml => {
                let comments: String =
                    self.text.split_inclusive('\n').take_while(|line| line.starts_with('#')).collect();
                // Block scalars would be folded at a width; a quoted line stays what it is.
                let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
                let yaml = serde_saphyr::to_string_with_options(&self.value, options);
                yaml.map(|yaml| comments + &yaml).map_err(|error| error.to_string())
            }
        }
    }
}

/// Objects by themselves, or those of a List, of a DeploymentList, and so on.
fn collect<'a>(value: &'a mut Value, objects: &mut Vec<&'a mut Value>) {
    let is_list = value["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) && value["items"].is_array();
    if !value.is_object() {
        return;
    }
    if is_list {
        for item in value["items"].as_array_mut().into_iter().flatten() {
            collect(item, objects);
        }
    } else {
        objects.push(value);
    }
}

/// All documents as one text, in the order in which they were read.
///
/// # Errors
/// If a value can't be written.
pub(super) fn write(documents: &[Document]) -> Result<String, ManifestError> {
    let is_json = documents.iter().all(|document| document.form == Form::Json);
    let mut text = String::new();
    for (index, document) in documents.iter().enumerate() {
        if !is_json && (index > 0 || documents.len() > 1) {
            text.push_str("---\n");
        }
        if document.has_changed {
            let rewritten = document.rewritten();
            text.push_str(&rewritten.map_err(|error| ManifestError::Syntax(document.place.clone(), error))?);
        } else {
            text.push_str(&document.text);
        }
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
    }
    Ok(text)
}

#[cfg(test)]
#[path = "manifests_tests.rs"]
mod tests;
