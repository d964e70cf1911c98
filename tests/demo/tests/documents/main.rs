//! The commands in the documents, run as they stand by a person at a terminal: on a cluster that has nothing of ours
//! before the first one.
//!
//! The documents speak of a Deployment `orders` in the namespace `shop`, of `registry.example` and of Alembic. Here the
//! image of that name is on the node already, and `orders` is a shell that waits, with an `alembic` that says what it
//! was told: what is tried are our commands, not theirs.

mod blocks;

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use blocks::{Block, blocks};
use demo::{Error, Result, Said, Site, User, promise};
use testcluster::image::Image;
use testcluster::progress::{Seen, step};
use testcluster::{Options, Profile};

/// In the order of a user's life: installed, used, looked up, removed.
const DOCUMENTS: [&str; 16] = [
    "docs/getting-started.md",
    "README.md",
    "docs/cli.md",
    "docs/page.md",
    "docs/gitops.md",
    "docs/moving.md",
    "docs/tools.md",
    "docs/faq.md",
    "docs/comparison.md",
    "docs/webhook.md",
    "docs/security.md",
    "docs/design.md",
    "docs/reliability.md",
    "docs/performance.md",
    "docs/run.md",
    "docs/operations.md",
];
/// How long a command that never ends by itself is watched.
const WATCHED: &str = "6";

/// The application of which the documents speak.
const ORDERS: &str = include_str!("orders.yaml");

struct World {
    site: Site,
    user: User,
    folder: PathBuf,
}

impl World {
    fn new() -> Result<World> {
        let site = Site::without_us(Options::new("t-documents", Profile::Node { nodes: 1 }))?;
        let user = User::of(&site.cluster, &site.artefacts)?;
        let folder = site.cluster.folder("documents")?;
        let world = World { site, user, folder };
        world.site.load_as("registry.example/migration-gate:0.1.0")?;
        let archive = world.folder.join("orders.tar");
        Image::new("docker.io/local/orders:1")
            .file("/bin/busybox", testcluster::busybox()?, 0o755)
            .link("/bin/sh", "busybox")
            .text("/bin/alembic", "#!/bin/sh\necho \"alembic $*\"\n", 0o755)
            .user("65532:65532")
            .build(&archive)?;
        world.site.cluster.load_image(&archive)?;
        let overlay = "overlays/production";
        world.write("deployment.yaml", ORDERS)?;
        world.write(&format!("{overlay}/deployment.yaml"), ORDERS)?;
        world.write(&format!("{overlay}/kustomization.yaml"), "resources: [deployment.yaml]\n")?;
        let (from, to) = (world.site.artefacts.root.join("deploy"), world.folder.join("deploy"));
        symlink(from, &to).map_err(|error| system(&to, error))?;
        // Before anybody gated it.
        let ungated: Vec<&str> = ORDERS.lines().filter(|line| !line.contains("migration-gate.dev/")).collect();
        world.site.cluster.kubectl(&["create", "namespace", "shop"])?;
        world.site.cluster.apply(&ungated.join("\n"))?;
        world.site.cluster.wait_for_condition("deployment/orders", "shop", "Available", Duration::from_secs(60))?;
        Ok(world)
    }

    fn write(&self, path: &str, text: &str) -> Result<()> {
        let file = self.folder.join(path);
        let made = file.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&file, text));
        made.map_err(|error| system(&file, error))
    }

    /// Runs a block; commands that watch are ended, all others must succeed.
    fn run(&self, block: &Block) -> Result<()> {
        let (mut script, mut watched) = (String::new(), Vec::new());
        for command in &block.commands {
            if command.contains("--watch") { watched.push(command) } else { script += &format!("{command}\n") }
        }
        let said = self.shell(&["bash", "-eo", "pipefail", "-c", &script])?;
        promise(said.code == 0, || format!("{}: {} ended with {said:#?}", block.place, script))?;
        for command in watched {
            let said = self.shell(&["timeout", "--foreground", WATCHED, "bash", "-c", command])?;
            let shows = said.code == 124 && !said.out.trim().is_empty();
            promise(shows, || format!("{}: {command} doesn't watch, but says {said:#?}", block.place))?;
        }
        Ok(())
    }

    /// Runs words at a terminal, where somebody says yes to each question.
    fn shell(&self, words: &[&str]) -> Result<Said> {
        let quoted: Vec<String> = words.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect();
        let mut terminal = self.user.command("script");
        terminal.args(["--quiet", "--return", "--command", &quoted.join(" "), "/dev/null"]).current_dir(&self.folder);
        terminal.env("IMAGE_TAG", "1").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let failed = |error| system(Path::new("script"), error);
        let mut child = terminal.spawn().map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(b"y\ny\n").map_err(failed)?;
        }
        child.wait_with_output().map(Said::from).map_err(failed)
    }
}

fn system(path: &Path, error: std::io::Error) -> Error {
    Error::System { what: path.display().to_string(), error }
}

/// The blocks of all documents, in their order.
fn all_blocks() -> Result<Vec<Block>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut all = Vec::new();
    for document in DOCUMENTS {
        let file = root.join(document);
        let text = fs::read_to_string(&file).map_err(|error| system(&file, error))?;
        all.extend(blocks(document, &text).map_err(Error::Broken)?);
    }
    Ok(all)
}

#[test]
fn every_document_is_read_and_every_command_in_it_is_found() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for entry in root.join("docs").read_dir().map_err(|error| system(&root, error))? {
        let name = entry.map_err(|error| system(&root, error))?.file_name();
        let name = format!("docs/{}", name.to_string_lossy());
        let known = DOCUMENTS.contains(&name.as_str()) || !name.ends_with(".md");
        promise(known, || format!("{name} is not in the list: say where in its order its commands are run"))?;
    }
    let (run, not_run): (Vec<_>, Vec<_>) = all_blocks()?.into_iter().partition(|block| block.not_run.is_none());
    promise(run.len() >= 10 && not_run.len() < run.len(), || format!("only these are run: {run:#?}"))
}

#[test]
fn the_commands_in_the_documents_do_what_they_say() -> Result<()> {
    let (world, mut broken) = (World::new()?, Vec::new());
    for block in all_blocks()? {
        match &block.not_run {
            Some(why) => step(format!("{}: not run: {why}", block.place)),
            None => {
                step(format!("{}: {}", block.place, block.commands.join("; ")));
                broken.extend(world.run(&block).err().map(|error| error.to_string()));
            }
        }
    }
    promise(broken.is_empty(), || broken.join("\n"))?;
    nothing_is_left(&world)
}

/// What the last document ends with is an uninstallation.
fn nothing_is_left(world: &World) -> Result<()> {
    let cluster = &world.site.cluster;
    cluster.wait_for("the workload to be as its team wrote it", Duration::from_secs(60), || {
        let orders = cluster.get(&["deployment/orders", "-n", "shop"])?;
        let left = orders["spec"]["template"].to_string();
        let free = !left.contains("migration-gate") && orders["status"]["readyReplicas"] == 2;
        Ok(if free { Seen::Done(()) } else { Seen::NotYet(left) })
    })?;
    let deployments = cluster.get(&["deployments", "-n", "migration-gate-system"])?;
    promise(deployments["items"].as_array().is_some_and(Vec::is_empty), || format!("left: {deployments}"))
}
