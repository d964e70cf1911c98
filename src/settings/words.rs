//! One line split into words as a POSIX shell would split it, without a shell.
//!
//! Whatever only a shell could do (pipes, lists, redirections, variables) is an error that says so, instead of an
//! argument that the tool would trip over in production. `$(NAME)` stays as it is: Kubernetes replaces it.

use std::iter::Peekable;
use std::str::Chars;

/// Why a line isn't one command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// A quotation has no end.
    #[error("the quotation that {0:?} opens has no end")]
    Unclosed(char),
    /// A backslash is the last character.
    #[error("the last character is a backslash")]
    Backslash,
    /// A character that means something to a shell only.
    #[error("the unquoted {0:?} means something to a shell only, and no shell is started")]
    Operator(char),
    /// A variable or substitution that only a shell would expand.
    #[error("no shell is started that could expand {0}; Kubernetes expands $(NAME)")]
    Expansion(String),
    /// `NAME=value` before the command.
    #[error("no shell is started that could set {0}; set it in the env annotation")]
    Assignment(String),
    /// No word at all.
    #[error("there is no command in it")]
    Empty,
}

/// Splits one line into words.
///
/// # Errors
/// If the line holds no word, or something that only a shell could do.
pub fn split(line: &str) -> Result<Vec<String>, WordsError> {
    let mut words = Vec::new();
    let mut rest = line.trim().chars().peekable();
    while let Some(&c) = rest.peek() {
        if c == ' ' || c == '\t' {
            rest.next();
        } else {
            words.extend(word(&mut rest)?);
        }
    }
    match words.first() {
        None => Err(WordsError::Empty),
        Some(first) if is_assignment(first) => Err(WordsError::Assignment(first.clone())),
        Some(_) => Ok(words),
    }
}

/// Reads one word; `None` for a continued line with nothing else in it.
fn word(rest: &mut Peekable<Chars<'_>>) -> Result<Option<String>, WordsError> {
    let mut word = String::new();
    let mut quoted = false;
    let mut start = true;
    while let Some(&c) = rest.peek() {
        match c {
            ' ' | '\t' => break,
            '#' if start => return Err(WordsError::Operator('#')),
            '|' | '&' | ';' | '<' | '>' | '(' | ')' | '`' => return Err(WordsError::Operator(c)),
            '\n' | '\r' => return Err(WordsError::Operator('\n')),
            _ => {}
        }
        rest.next();
        start = false;
        match c {
            '\'' => {
                quoted = true;
                single_quoted(rest, &mut word)?;
            }
            '"' => {
                quoted = true;
                double_quoted(rest, &mut word)?;
            }
            '\\' => match rest.next() {
                Some('\n') => {}
                Some(escaped) => word.push(escaped),
                None => return Err(WordsError::Backslash),
            },
            '$' => dollar(rest, &mut word)?,
            plain => word.push(plain),
        }
    }
    Ok((quoted || !word.is_empty()).then_some(word))
}

fn single_quoted(rest: &mut Peekable<Chars<'_>>, word: &mut String) -> Result<(), WordsError> {
    loop {
        match rest.next() {
            Some('\'') => return Ok(()),
            Some(c) => word.push(c),
            None => return Err(WordsError::Unclosed('\'')),
        }
    }
}

fn double_quoted(rest: &mut Peekable<Chars<'_>>, word: &mut String) -> Result<(), WordsError> {
    loop {
        match rest.next() {
            Some('"') => return Ok(()),
            Some('`') => return Err(WordsError::Operator('`')),
            Some('$') => dollar(rest, word)?,
            Some('\\') => match rest.next() {
                Some('\n') => {}
                Some(c @ ('$' | '`' | '"' | '\\')) => word.push(c),
                Some(c) => word.extend(['\\', c]),
                None => return Err(WordsError::Unclosed('"')),
            },
            Some(c) => word.push(c),
            None => return Err(WordsError::Unclosed('"')),
        }
    }
}

/// Reads on after an unescaped `$`: Kubernetes' `$(NAME)` and its escape `$$(NAME)` stay, a shell's variables don't.
fn dollar(rest: &mut Peekable<Chars<'_>>, word: &mut String) -> Result<(), WordsError> {
    match rest.peek() {
        Some('(') => {
            rest.next();
            let mut name = String::new();
            loop {
                match rest.next() {
                    Some(')') if is_variable(&name) => break,
                    Some(c) if c != ')' => name.push(c),
                    _ => return Err(WordsError::Expansion(format!("$({name})"))),
                }
            }
            word.extend(["$(", &name, ")"]);
        }
        Some('$') => {
            rest.next();
            word.push('$');
            if rest.peek() != Some(&'(') {
                return Err(WordsError::Expansion("$$".to_owned()));
            }
            dollar(rest, word)?;
        }
        Some(c) if c.is_ascii_alphanumeric() || "_{?!@*#-".contains(*c) => {
            let name: String = rest.clone().take_while(|c| c.is_ascii_alphanumeric() || "_{}".contains(*c)).collect();
            return Err(WordsError::Expansion(format!("${name}")));
        }
        _ => word.push('$'),
    }
    Ok(())
}

/// What may stand between `$(` and `)`. Source: Kubernetes, EnvVar.name: printable ASCII without `=`; here also without
/// blanks, so that a shell's command substitution isn't taken for a variable.
fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && b != b'=')
}

/// `NAME=value`, which a shell would take for an assignment before the command.
fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_a_shells() {
        for (line, words) in [
            ("superset db upgrade", &["superset", "db", "upgrade"][..]),
            ("  a\tb  ", &["a", "b"]),
            (r#"sh -c 'a && b | "c"'"#, &["sh", "-c", r#"a && b | "c""#]),
            (r#"a "b \"c\" \n" d\ e"#, &["a", r#"b "c" \n"#, "d e"]),
            ("a '' \"\"", &["a", "", ""]),
            ("a'b'\"c\"d", &["abcd"]),
            ("a \\\n  b", &["a", "b"]),
            ("goose -dsn $(DSN) \"$(DSN)\" $$(DSN)", &["goose", "-dsn", "$(DSN)", "$(DSN)", "$$(DSN)"]),
            ("a b#c x=y 5$ \\$HOME '$HOME'", &["a", "b#c", "x=y", "5$", "$HOME", "$HOME"]),
            ("a *.sql ~ {b} [c]", &["a", "*.sql", "~", "{b}", "[c]"]),
        ] {
            assert_eq!(split(line).as_deref(), Ok(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>()[..]));
        }
    }

    #[test]
    fn what_needs_a_shell_is_an_error() {
        for (line, error) in [
            ("", WordsError::Empty),
            (" \t ", WordsError::Empty),
            ("\\\n", WordsError::Backslash),
            ("a 'b", WordsError::Unclosed('\'')),
            ("a \"b", WordsError::Unclosed('"')),
            ("a \"b\\", WordsError::Unclosed('"')),
            ("a\\", WordsError::Backslash),
            ("a && b", WordsError::Operator('&')),
            ("a | b", WordsError::Operator('|')),
            ("a; b", WordsError::Operator(';')),
            ("a >b", WordsError::Operator('>')),
            ("a # b", WordsError::Operator('#')),
            ("a\nb", WordsError::Operator('\n')),
            ("a `b`", WordsError::Operator('`')),
            ("(a)", WordsError::Operator('(')),
            ("a $HOME/b", WordsError::Expansion("$HOME".to_owned())),
            ("a \"${HOME}\"", WordsError::Expansion("${HOME}".to_owned())),
            ("a $(date +%s)", WordsError::Expansion("$(date +%s)".to_owned())),
            ("a $(", WordsError::Expansion("$()".to_owned())),
            ("a $$", WordsError::Expansion("$$".to_owned())),
            ("A=b c", WordsError::Assignment("A=b".to_owned())),
        ] {
            assert_eq!(split(line), Err(error), "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn quoted_words_come_back(words in proptest::collection::vec("\\PC{0,12}", 1..6)) {
            let line: Vec<String> = words.iter().map(|w| format!("'{}'", w.replace('\'', "'\\''"))).collect();
            prop_assume!(!is_assignment(&words[0]));
            prop_assert_eq!(split(&line.join(" ")), Ok(words));
        }

        #[test]
        fn any_line_is_split_or_refused(line in "\\PC*") {
            let _ = split(&line);
        }
    }
}
