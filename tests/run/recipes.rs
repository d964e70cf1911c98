//! The recipes of docs/run.md, run as they stand there: each twice, and the tool is run once.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;
use testcluster::postgres::Server;

use super::starter::{Folder, new_name, postgres, program, start_program};

const TEXT: &str = include_str!("../../docs/run.md");

/// The code below a heading, in this language, as documents.
fn code<'t>(heading: &str, language: &str) -> Vec<&'t str> {
    let section =
        TEXT.split("\n### ").find(|section| section.starts_with(heading)).unwrap_or_else(|| panic!("no {heading}"));
    let section = section.split("\n## ").next().unwrap_or_default();
    let blocks: Vec<&str> = section
        .split("```")
        .skip(1)
        .step_by(2)
        .filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n'))
        .collect();
    assert!(!blocks.is_empty(), "no {language} under {heading}");
    blocks
}

fn yaml(heading: &str, number: usize) -> Value {
    serde_saphyr::from_str(code(heading, "yaml")[number]).unwrap_or_else(|error| panic!("{heading}: {error}"))
}

fn words(value: &Value) -> Vec<String> {
    let words = value.as_array().unwrap_or_else(|| panic!("no list: {value}"));
    words.iter().map(|word| word.as_str().unwrap_or_else(|| panic!("no text: {word}")).to_owned()).collect()
}

fn shell(line: &Value) -> Vec<String> {
    ["sh", "-c", line.as_str().expect("a line")].map(str::to_owned).to_vec()
}

/// A machine with the programs that the recipes name; each writes its name into the file `ran`.
struct Machine {
    folder: Folder,
    database: String,
    /// It goes on for as long as somebody has it.
    _server: Arc<Server>,
}

impl Machine {
    fn new() -> Machine {
        let folder = Folder::new();
        fs::create_dir_all(folder.file("bin")).expect("a folder");
        symlink(program(), folder.file("bin/migration-gate")).expect("a link");
        for name in ["alembic", "rails", "migrate", "gunicorn"] {
            let path = folder.file("bin").join(name);
            fs::write(&path, format!("#!/bin/sh\necho {name} >> {}/ran\n", folder.0.display())).expect("a file");
            fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("its owner may");
        }
        let server = postgres();
        Machine { folder, database: server.create_database(&new_name("recipe")).expect("a database"), _server: server }
    }

    /// Runs it twice, with these programs found in this machine's folder; what it ran.
    fn twice(&self, command: &[String]) -> Vec<String> {
        let here = |word: &str| {
            let bin: PathBuf = self.folder.file("bin");
            word.replace("/usr/local/bin/", &format!("{}/", bin.display()))
                .replace("/srv/shop/bin/", &format!("{}/", bin.display()))
                .replace("%d/", &format!("{}/", self.folder.0.display()))
        };
        let path = std::env::var("PATH").unwrap_or_default();
        for _ in 0..2 {
            let mut starter = Command::new(here(&command[0]));
            starter.args(command[1..].iter().map(|word| here(word))).current_dir(&self.folder.0);
            starter.env("PATH", format!("{}:{path}", self.folder.file("bin").display()));
            starter.env("DATABASE_URL", &self.database).env("GITHUB_SHA", "5ca1ab1e").env("CI_COMMIT_SHA", "5ca1ab1e");
            let ended = start_program(starter).wait();
            assert_eq!(ended.code, Some(0), "{command:?}: {ended:?}");
        }
        self.folder.lines("ran")
    }
}

#[test]
fn compose_migrates_once_and_serves_each_time() {
    let web = &yaml("Compose", 0)["services"]["web"];
    assert!(web["environment"]["DATABASE_URL"].is_string());
    assert_eq!(Machine::new().twice(&words(&web["command"])), ["alembic", "gunicorn", "gunicorn"]);
}

#[test]
fn the_unit_is_valid_and_its_first_step_migrates_once() {
    let unit = code("systemd", "ini")[0];
    let machine = Machine::new();
    fs::write(machine.folder.file("database-url"), &machine.database).expect("a file");
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStartPre=")).expect("a first step");
    let command: Vec<String> = line.split(' ').map(str::to_owned).collect();
    assert_eq!(machine.twice(&command), ["migrate"]);
    if Path::new("/usr/bin/systemd-analyze").exists() {
        let there = |unit: &str| {
            let bin = machine.folder.file("bin");
            unit.replace("/srv/shop/bin/serve", "/bin/true")
                .replace("/srv/shop/bin/", &format!("{}/", bin.display()))
                .replace("/usr/local/bin/", &format!("{}/", bin.display()))
        };
        let file = machine.folder.file("shop.service");
        fs::write(&file, there(unit)).expect("a file");
        let verified =
            Command::new("systemd-analyze").arg("verify").arg("--man=no").arg(&file).output().expect("it runs");
        let said = String::from_utf8_lossy(&verified.stderr);
        assert!(!said.contains("shop.service"), "{said}");
    }
}

#[test]
fn ci_jobs_migrate_once_for_a_commit() {
    let github = yaml("CI: GitHub and GitLab", 0);
    let step = &github["jobs"]["migrate"]["steps"][0];
    assert!(step["env"]["DATABASE_URL"].is_string());
    assert_eq!(Machine::new().twice(&shell(&step["run"])), ["rails"]);
    let gitlab = yaml("CI: GitHub and GitLab", 1);
    assert_eq!(Machine::new().twice(&shell(&gitlab["migrate"]["script"])), ["rails"]);
}

#[test]
fn init_containers_and_hooks_migrate_once() {
    let deployment = yaml("A plain init container", 0);
    let container = &deployment["spec"]["template"]["spec"]["initContainers"][0];
    let job = yaml("A Helm hook", 0);
    let hook = &job["spec"]["template"]["spec"]["containers"][0];
    for container in [container, hook] {
        assert_eq!(container["env"][0]["name"], "DATABASE_URL");
        assert_eq!(Machine::new().twice(&words(&container["command"])), ["alembic"]);
    }
}
