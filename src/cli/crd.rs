//! `migration-gate crd`.

use clap::Args;

use super::{Exit, Failure};
use crate::migration;
use crate::supervise::Sentence;

/// Print the CustomResourceDefinition of MigrationGate as YAML.
#[derive(Debug, Args)]
pub(super) struct CrdArguments {}

/// What stands above the definition in the file that is made from it.
const HEADER: &str = "# Made by `make crd` from src/migration.rs; a test compares the two.\n";

impl CrdArguments {
    pub(super) fn run(self) -> Result<(), Failure> {
        print!("{}", text().map_err(|error| Failure::new(Exit::Software, error))?);
        Ok(())
    }
}

fn text() -> Result<String, Sentence> {
    let definition = migration::definition().map_err(|error| Sentence(error.to_string()))?;
    let yaml = serde_saphyr::to_string(&definition).map_err(|error| Sentence(error.to_string()))?;
    Ok(format!("{HEADER}{yaml}"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_file_for_installations_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/crd.yaml");
        let file = std::fs::read_to_string(path).expect("deploy/crd.yaml is there");
        assert!(file == super::text().expect("it can be written"), "deploy/crd.yaml is not current: run `make crd`");
    }
}
