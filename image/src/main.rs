//! `oci-image`: an image from files of this machine, from the command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use oci_image::{Architecture, Image, Result, build_index};

/// Make a container image without a container engine: an OCI layout in a tar archive.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The archive to write.
    #[arg(long)]
    output: PathBuf,
    /// The image's full name with its tag.
    #[arg(long)]
    tag: String,
    /// As whom it runs.
    #[arg(long)]
    user: Option<String>,
    /// What is run when a pod names no command.
    #[arg(long)]
    entrypoint: Option<String>,
    /// A Rust target that it is for, such as aarch64-unknown-linux-gnu; more than one make an index.
    #[arg(long = "target", required = true)]
    targets: Vec<String>,
    /// A label as KEY=VALUE; one without a value is left out.
    #[arg(long = "label", value_parser = label)]
    labels: Vec<(String, String)>,
    /// When it was made, as in RFC 3339.
    #[arg(long)]
    created: Option<String>,
    /// Compress the layers, as registries have them.
    #[arg(long)]
    compress: bool,
    /// The programs in it, each as PATH=FILE: the path in the image, the file on this machine. `{target}` in it stands for
    /// each target.
    #[arg(required = true, value_parser = program)]
    programs: Vec<(String, String)>,
}

/// `key=value`.
fn label(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

/// `/path=file`.
fn program(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((path, file)) if path.starts_with('/') && !file.is_empty() => Ok((path.to_owned(), file.to_owned())),
        _ => Err("write /PATH/IN/THE/IMAGE=FILE".to_owned()),
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("oci-image: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let images = arguments.targets.iter().map(|target| image(arguments, target)).collect::<Result<Vec<Image>>>()?;
    match images.as_slice() {
        [image] => image.build(&arguments.output),
        several => build_index(several, &arguments.output),
    }
}

fn image(arguments: &Arguments, target: &str) -> Result<Image> {
    let mut image = Image::new(&arguments.tag).architecture(Architecture::of_target(target)?);
    if let Some(user) = &arguments.user {
        image = image.user(user);
    }
    if let Some(entrypoint) = &arguments.entrypoint {
        image = image.entrypoint([entrypoint]);
    }
    if let Some(created) = &arguments.created {
        image = image.created(created);
    }
    if arguments.compress {
        image = image.compressed();
    }
    for (key, value) in arguments.labels.iter().filter(|(_, value)| !value.is_empty()) {
        image = image.label(key, value);
    }
    for (path, file) in &arguments.programs {
        image = image.file(path, file.replace("{target}", target), 0o755);
    }
    Ok(image)
}
