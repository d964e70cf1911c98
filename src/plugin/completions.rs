//! `completions`: scripts that complete verbs and options in a shell.

use clap::{Args, Command};
use clap_complete::Shell;

use super::problem::Problem;
use super::terminal::print;

/// Print a script that completes commands in a shell
///
/// For bash: `source <(migration-gate completions bash)`. kubectl completes its plugins by a program named
/// `kubectl_complete-migration_gate` on the PATH: a link to this one does it.
#[derive(Clone, Debug, Args)]
pub(crate) struct CompletionsArguments {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl CompletionsArguments {
    /// Prints the script for a command.
    pub(crate) fn run(self, mut command: Command) -> Result<(), Problem> {
        let name = command.get_name().to_owned();
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, name, &mut script);
        print(&String::from_utf8_lossy(&script))
    }
}

/// Answers kubectl, which asks with the words so far and the beginning of the next one: a line for each possibility, then
/// a directive. Source: kubectl, "Plugin completion"; the directive 4 is cobra's ShellCompDirectiveNoFileComp.
pub(crate) fn answer_kubectl(command: &Command, words: &[String]) -> String {
    let (begun, before) = words.split_last().map_or(("", &[][..]), |(last, before)| (last.as_str(), before));
    let verb = before.iter().find_map(|word| command.find_subcommand(word));
    let mut options: Vec<String> = match verb {
        None => visible(command.get_subcommands()),
        Some(verb) => verb
            .get_arguments()
            .filter(|argument| !argument.is_hide_set())
            .filter_map(|argument| argument.get_long().map(|long| format!("--{long}")))
            .collect(),
    };
    options.retain(|option| option.starts_with(begun));
    options.sort();
    options.push(":4".to_owned());
    options.join("\n") + "\n"
}

fn visible<'a>(commands: impl Iterator<Item = &'a Command>) -> Vec<String> {
    commands.filter(|command| !command.is_hide_set()).map(|command| command.get_name().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[derive(clap::Parser)]
    struct Whole {
        #[command(subcommand)]
        _verb: crate::plugin::Verb,
    }

    fn answer(words: &[&str]) -> String {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        answer_kubectl(&Whole::command(), &words)
    }

    #[test]
    fn kubectl_hears_verbs_and_then_their_options() {
        assert_eq!(answer(&["re"]), "release\nretry\n:4\n");
        assert_eq!(answer(&["status", "--a"]), "--all-namespaces\n:4\n");
        assert_eq!(answer(&["nonsense", "x"]), ":4\n");
        assert!(answer(&[]).starts_with("approve\ncompletions\n"), "{}", answer(&[]));
    }
}
