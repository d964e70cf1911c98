//! The commands in a Markdown document: every fenced block that says `sh` or `console`.
//!
//! A comment right above a block keeps it from being run, and says why: `<!-- not run: it needs a registry -->`.
//! What looks like a command anywhere else is an error, so that none is forgotten.

/// First words of commands. A block of a language of its own (yaml, ini) may hold them.
const PROGRAMS: [&str; 11] =
    ["kubectl", "helm", "make", "migration-gate", "kustomize", "skopeo", "cargo", "docker", "ln", "source", "$"];

/// A block of commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The document and the line of its first command.
    pub place: String,
    /// The commands, each of one or more lines.
    pub commands: Vec<String>,
    /// Why it isn't run.
    pub not_run: Option<String>,
}

/// The blocks of a document, or what is wrong with it.
pub fn blocks(document: &str, text: &str) -> Result<Vec<Block>, String> {
    let (mut blocks, mut mark, mut fence) = (Vec::<Block>::new(), None, None);
    for (number, line) in (1..).zip(text.lines()) {
        let place = format!("{document}:{number}");
        if let Some(language) = line.trim_start().strip_prefix("```") {
            let mark: Option<String> = mark.take();
            fence = match fence {
                Some(_) => None,
                None if matches!(language, "sh" | "console") => {
                    blocks.push(Block { place, commands: Vec::new(), not_run: mark });
                    Some(language)
                }
                None if mark.is_some() => return Err(format!("{place}: nothing is run below the mark")),
                None => Some(language),
            };
            continue;
        }
        match fence {
            Some("sh") => add(&mut blocks, line),
            Some("console") => {
                line.strip_prefix("$ ").into_iter().for_each(|command| add(&mut blocks, command));
            }
            None if mark.is_some() => return Err(format!("{place}: a mark stands right above its block")),
            None if line.starts_with("<!-- not run:") => {
                let reason = line.trim_start_matches("<!-- not run:").trim_end_matches("-->").trim();
                mark = (!reason.is_empty()).then(|| reason.to_owned());
                mark.as_ref().ok_or_else(|| format!("{place}: the mark gives no reason"))?;
            }
            None | Some("") => {
                let indented = line.starts_with("    ") || fence.is_some();
                let first = line.split_whitespace().next().unwrap_or_default();
                if indented && PROGRAMS.contains(&first) {
                    return Err(format!("{place}: {line:?} is a command outside of a block of sh or console"));
                }
            }
            Some(_) => {}
        }
    }
    Ok(blocks)
}

/// Adds a line to the last block: to its last command, where that goes on, else as a new one.
fn add(blocks: &mut [Block], line: &str) {
    let Some(block) = blocks.last_mut() else { return };
    // Enough of a shell's grammar for documents: a backslash at the end, or a quote that is open.
    let goes_on = |command: &String| command.ends_with('\\') || command.matches('\'').count() % 2 == 1;
    match block.commands.last_mut().filter(|command| goes_on(command)) {
        Some(command) => *command += &format!("\n{line}"),
        None if line.trim().is_empty() => {}
        None => block.commands.push(line.to_owned()),
    }
}

#[test]
fn every_command_is_in_a_block_and_a_block_that_is_not_run_says_why() {
    let text =
        "a\n```sh\nkubectl a \\\n  b\nhelm 'c\nd'\n```\n<!-- not run: far away -->\n```console\n$ make e\nf\n```\n";
    let block = |place: &str, commands: &[&str], not_run: Option<&str>| Block {
        place: place.to_owned(),
        commands: commands.iter().map(|&command| command.to_owned()).collect(),
        not_run: not_run.map(str::to_owned),
    };
    let expected =
        [block("x.md:2", &["kubectl a \\\n  b", "helm 'c\nd'"], None), block("x.md:9", &["make e"], Some("far away"))];
    assert_eq!(blocks("x.md", text), Ok(expected.to_vec()));
    for (text, complaint) in [
        ("    kubectl get pods", "outside"),
        ("```\n$ helm list\n```", "outside"),
        ("<!-- not run: -->\n```sh\na\n```", "no reason"),
        ("<!-- not run: because -->\n\n```sh\na\n```", "right above"),
        ("<!-- not run: because -->\n```yaml\na\n```", "nothing is run"),
    ] {
        let found = blocks("x.md", text).expect_err(text);
        assert!(found.contains(complaint), "{text}: {found}");
    }
}
