use super::*;
use std::process::Command;

use oci_spec::image::{ImageConfiguration, ImageIndex, ImageManifest};

/// A folder that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("oci-image-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("the temporary folder is writable");
        Folder(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn sample() -> Image {
    Image::new("docker.io/local/sample:1")
        .text("/etc/greeting", "hello\n", 0o640)
        .link("/bin/sh", "busybox")
        .folder("/tmp", 0o1777)
        .entrypoint(["/bin/sh"])
        .user("65532:65532")
        .label("org.opencontainers.image.title", "sample")
        .label("org.opencontainers.image.version", "1")
        .label("org.opencontainers.image.revision", "abc")
}

fn both() -> [Image; 2] {
    [Architecture::Amd64, Architecture::Arm64].map(|architecture| sample().architecture(architecture).compressed())
}

/// Standard output of a program that must succeed.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).env("TZ", "UTC").output().expect("it starts");
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// The files of an archive, by the tar of this machine.
fn unpack(archive: &Path, into: &Path) {
    fs::create_dir_all(into).expect("the folder above is there");
    said("tar", &["-xf", archive.to_str().expect("text"), "-C", into.to_str().expect("text")]);
}

fn blob(layout: &Path, descriptor: &Descriptor) -> PathBuf {
    let path = layout.join("blobs/sha256").join(descriptor.digest().digest());
    let bytes = fs::read(&path).expect("the blob is there");
    assert_eq!((bytes.len() as u64, layout::digest(&bytes)), (descriptor.size(), descriptor.digest().to_string()));
    path
}

#[test]
fn a_layer_is_an_archive_that_tar_reads() {
    let folder = Folder::new("layer");
    let file = folder.file("layer.tar");
    fs::write(&file, sample().layer.tar().expect("its files are here")).expect("the folder is there");
    let listing = said("tar", &["--numeric-owner", "--full-time", "-tvf", file.to_str().expect("text")]);
    let shown: Vec<String> =
        listing.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let wanted = [
        "drwxr-xr-x 0/0 0 1970-01-01 00:00:00 bin/",
        "lrwxrwxrwx 0/0 0 1970-01-01 00:00:00 bin/sh -> busybox",
        "drwxr-xr-x 0/0 0 1970-01-01 00:00:00 etc/",
        "-rw-r----- 0/0 6 1970-01-01 00:00:00 etc/greeting",
        "drwxrwxrwt 0/0 0 1970-01-01 00:00:00 tmp/",
    ];
    assert_eq!(shown, wanted);
}

#[test]
fn the_same_files_give_the_same_image() {
    let folder = Folder::new("same");
    let built = |name: &str| {
        build_index(&both(), &folder.file(name)).expect("its files are here");
        fs::read(folder.file(name)).expect("it was just written")
    };
    // Each hash map has an order of its own, so a few make it nearly certain that one differs.
    let first = built("first");
    assert!((0..8).all(|_| built("again") == first));
}

#[test]
fn an_index_has_an_image_for_each_architecture() {
    let folder = Folder::new("index");
    build_index(&both(), &folder.file("image.tar")).expect("its files are here");
    let layout = folder.file("layout");
    unpack(&folder.file("image.tar"), &layout);
    let top = ImageIndex::from_file(layout.join("index.json")).expect("an index");
    let [top] = top.manifests().as_slice() else { panic!("one name: {top:?}") };
    let name = top.annotations().as_ref().and_then(|all| all.get("io.containerd.image.name"));
    assert_eq!(name.map(String::as_str), Some("docker.io/local/sample:1"));

    let index = ImageIndex::from_file(blob(&layout, top)).expect("an index");
    let title = |all: &Option<HashMap<String, String>>| {
        all.as_ref().and_then(|all| all.get("org.opencontainers.image.title").cloned())
    };
    assert_eq!(title(index.annotations()).as_deref(), Some("sample"));
    let mut seen = Vec::new();
    for descriptor in index.manifests() {
        let manifest = ImageManifest::from_file(blob(&layout, descriptor)).expect("a manifest");
        let config = ImageConfiguration::from_file(blob(&layout, manifest.config())).expect("a configuration");
        let platform = descriptor.platform().as_ref().expect("in an index each has one");
        assert_eq!((platform.architecture(), platform.os()), (config.architecture(), config.os()));
        let run = config.config().as_ref().expect("it is set");
        assert_eq!(run.user().as_deref(), Some("65532:65532"));
        assert_eq!(
            (title(run.labels()), title(manifest.annotations())),
            (Some("sample".into()), Some("sample".into()))
        );

        let [layer] = manifest.layers().as_slice() else { panic!("one layer: {manifest:?}") };
        assert_eq!(layer.media_type(), &MediaType::ImageLayerGzip);
        let unpacked = Command::new("gzip").arg("-dc").arg(blob(&layout, layer)).output().expect("it starts");
        assert_eq!(config.rootfs().diff_ids(), &[layout::digest(&unpacked.stdout)]);
        seen.push(platform.architecture().to_string());
    }
    assert_eq!(seen, ["amd64", "arm64"]);
}

#[test]
fn what_no_node_could_choose_from_is_refused() {
    let folder = Folder::new("refused");
    let refused = |images: &[Image]| build_index(images, &folder.file("image.tar")).expect_err("refused").to_string();
    assert_eq!(refused(&[]), "an index needs an image for at least one architecture");
    let [_, arm] = both();
    assert_eq!(refused(&[arm.clone(), arm]), "two images for arm64");
    assert!(Architecture::of_target("aarch64-apple-darwin").is_err());
    assert!(Architecture::of_target("riscv64gc-unknown-linux-gnu").is_err());
    assert_eq!(Architecture::of_target("aarch64-unknown-linux-musl").expect("Linux on Arm"), Architecture::Arm64);
}

#[test]
fn a_file_that_is_missing_is_named() {
    let folder = Folder::new("missing");
    let image = Image::new("docker.io/local/missing:1").file("/bin/program", folder.file("program"), 0o755);
    let error = image.build(&folder.file("image.tar")).expect_err("there is none").to_string();
    assert!(error.contains(folder.file("program").to_str().expect("text")), "{error}");
}
