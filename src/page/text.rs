//! Text that came from elsewhere, fit to be looked at.
//!
//! Escaping is the template's part, for all text and without exception. What is left to do here is what HTML doesn't
//! mind and people do: what a terminal would obey, and what turns the direction of the text around it.

/// A text of one line, at most this many characters.
pub(super) fn line(text: &str, most: usize) -> String {
    let clean = lines(text).replace(['\n', '\t'], " ");
    let clean = clean.trim();
    match clean.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &clean[..end]),
        None => clean.to_owned(),
    }
}

/// A text of several lines.
pub(super) fn lines(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            // Colours, most of the time. Source: ECMA-48, 5.4: after ESC [ everything up to a character of @ to ~.
            '\u{1b}' if rest.next_if_eq(&'[').is_some() => {
                while rest.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
            }
            '\r' if rest.peek() == Some(&'\n') => {}
            // A progress bar's next state.
            '\r' => clean.push('\n'),
            '\n' | '\t' => clean.push(c),
            c if c.is_control() || turns(c) => clean.push('\u{fffd}'),
            c => clean.push(c),
        }
    }
    clean
}

/// Whether a character changes the direction of what follows it. Source: Unicode Standard Annex 9, 2.1 to 2.6.
fn turns(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_gone() {
        assert_eq!(lines("\u{1b}[1;31mERROR\u{1b}[0m: a\tb\r\nnext"), "ERROR: a\tb\nnext");
        assert_eq!(lines("10 %\r20 %\r"), "10 %\n20 %\n");
        assert_eq!(lines("bell\u{7} \u{1b}]0;title\u{7} nul\0"), "bell\u{fffd} \u{fffd}]0;title\u{fffd} nul\u{fffd}");
        // A sequence that never ends takes the rest with it, and nothing else.
        assert_eq!(lines("a\u{1b}[12"), "a");
        assert_eq!(lines("a\u{1b}"), "a\u{fffd}");
    }

    #[test]
    fn no_text_turns_what_follows_it() {
        assert_eq!(lines("user\u{202e}nimda\u{2066}x"), "user\u{fffd}nimda\u{fffd}x");
    }

    #[test]
    fn one_line_is_cut_at_whole_characters() {
        assert_eq!(line("  ä\nö\tü  ", 10), "ä ö ü");
        assert_eq!(line("äöü", 3), "äöü");
        assert_eq!(line("äöüß", 3), "äöü…");
    }
}
