//! The chart's README: its table of values is written from values.yaml, whose comments say what each is for.

use std::fmt::Write;

use crate::root;

const BEGIN: &str = "<!-- values: written by `make chart-readme` -->\n";
const END: &str = "<!-- end of values -->\n";

/// A value of values.yaml.
struct Row {
    path: String,
    default: String,
    description: String,
}

/// The values of values.yaml, each on one line with a comment above it.
fn rows(text: &str) -> Vec<Row> {
    let (mut rows, mut path, mut comment) = (Vec::new(), Vec::<&str>::new(), Vec::<&str>::new());
    for line in text.lines() {
        let depth = line.len() - line.trim_start().len();
        let line = line.trim();
        if let Some(words) = line.strip_prefix('#') {
            comment.push(words.trim());
            continue;
        }
        let description = std::mem::take(&mut comment).join(" ");
        let Some((key, default)) = line.split_once(':') else {
            assert!(line.is_empty(), "values.yaml: {line:?} is neither a value nor a comment");
            continue;
        };
        path.truncate(depth / 2);
        path.push(key);
        let (path, default) = (path.join("."), default.trim().to_owned());
        if default.is_empty() {
            continue;
        }
        assert!(!description.is_empty(), "values.yaml: nothing says what {path} is for");
        rows.push(Row { path, default, description });
    }
    rows
}

/// They as Markdown.
fn table(rows: &[Row]) -> String {
    let mut table = "| value | default | |\n|---|---|---|\n".to_owned();
    for Row { path, default, description } in rows {
        let description = description.replace('|', "\\|");
        writeln!(table, "| `{path}` | `{default}` | {description} |").expect("memory");
    }
    table
}

#[test]
fn the_readme_has_every_value_as_it_is() {
    let path = root().join("deploy/chart/README.md");
    let readme = std::fs::read_to_string(&path).expect("it is there");
    let (before, rest) = readme.split_once(BEGIN).expect("the mark of the values' begin");
    let (_, after) = rest.split_once(END).expect("the mark of the values' end");
    let values = table(&rows(include_str!("../../deploy/chart/values.yaml")));
    let current = format!("{before}{BEGIN}{values}{END}{after}");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, current).expect("it can be written");
        return;
    }
    assert!(readme == current, "deploy/chart/README.md is not current: run `make chart-readme`");
}
