//! `migration-gate man`: the manual's pages, made from the same words as `--help`. For those who package the program.

use std::fs;
use std::path::PathBuf;

use clap::Args;

use super::{Exit, Failure};
use crate::supervise::Sentence;

/// Write the manual's pages, one for each command.
#[derive(Debug, Args)]
pub(super) struct ManArguments {
    /// The folder to write them into, such as /usr/share/man/man1
    folder: PathBuf,
}

impl ManArguments {
    pub(super) fn run(self, program: clap::Command) -> Result<(), Failure> {
        fs::create_dir_all(&self.folder)
            .and_then(|()| clap_mangen::generate_to(program, &self.folder))
            .map_err(|error| Failure::new(Exit::System, Sentence(format!("{}: {error}", self.folder.display()))))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;

    use super::*;
    use crate::cli::Arguments;

    #[test]
    fn each_command_that_help_shows_has_a_page() {
        let folder = std::env::temp_dir().join(format!("migration-gate-man-{}", std::process::id()));
        ManArguments { folder: folder.clone() }.run(Arguments::command()).expect("the temporary folder is writable");
        let pages: BTreeSet<String> = fs::read_dir(&folder)
            .expect("it was made")
            .map(|entry| entry.expect("it was made").file_name().into_string().expect("text"))
            .collect();
        let status = fs::read_to_string(folder.join("migration-gate-status.1")).expect("a verb's page");
        fs::remove_dir_all(&folder).expect("it is ours");

        let program = Arguments::command();
        let shown = program.get_subcommands().filter(|command| !command.is_hide_set());
        let mut wanted: BTreeSet<String> =
            shown.map(|command| format!("migration-gate-{}.1", command.get_name())).collect();
        wanted.insert("migration-gate.1".to_owned());
        assert_eq!(pages, wanted);
        assert!(
            !pages.contains("migration-gate-guard.1") && !pages.contains("migration-gate-man.1"),
            "hidden: {pages:?}"
        );
        assert!(status.contains("kubeconfig"), "{status}");
    }
}
