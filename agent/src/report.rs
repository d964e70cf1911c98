//! The termination message: the verdict on its first line, then the last lines of output.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use migration_gate_contract::{MESSAGE_BYTES, Report, VERDICT_BYTES};

/// The bytes of output that are kept. More than a message holds, for escape sequences are taken out of it.
const KEPT: usize = 2 * MESSAGE_BYTES;

/// The end of what the commands wrote, both streams as they came.
#[derive(Debug, Default)]
pub struct Tail {
    bytes: Vec<u8>,
}

impl Tail {
    /// Adds what was written last.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(&bytes[bytes.len().saturating_sub(KEPT)..]);
        // Cut only now and then, so that each byte is moved about once.
        if self.bytes.len() > 2 * KEPT {
            self.bytes.drain(..self.bytes.len() - KEPT);
        }
    }

    /// Adds a sentence of the agent's own, on a line for itself.
    pub fn say(&mut self, sentence: &str) {
        if self.bytes.last().is_some_and(|last| *last != b'\n') {
            self.push(b"\n");
        }
        self.push(sentence.as_bytes());
        self.push(b"\n");
    }

    /// As many of the last lines as fit into so many bytes, safe to print and to keep as a string.
    pub fn last(&self, room: usize) -> String {
        let text = harmless(&self.bytes[self.bytes.len().saturating_sub(KEPT)..]);
        last_lines(text.trim_end(), room).to_owned()
    }
}

/// The message: the report on one line of at most [`VERDICT_BYTES`], then as many of the last lines of output as
/// [`MESSAGE_BYTES`] leave room for. A last line that is too long by itself loses its beginning.
pub fn compose(report: &Report, tail: &Tail) -> String {
    let mut message = serde_json::to_string(report).expect("strings and numbers always serialise");
    debug_assert!(message.len() < VERDICT_BYTES, "only a pod UID of absurd length could do that");
    message.push('\n');
    message.push_str(&tail.last(MESSAGE_BYTES.saturating_sub(message.len() + 1)));
    if !message.ends_with('\n') {
        message.push('\n');
    }
    message
}

/// The end of the text within so many bytes: whole lines, if there is a line break to cut at.
fn last_lines(text: &str, room: usize) -> &str {
    let mut start = text.len().saturating_sub(room);
    if start == 0 {
        return text;
    }
    while !text.is_char_boundary(start) {
        start += 1;
    }
    let end = &text[start..];
    match end.find('\n') {
        // The cut fell on the beginning of a line.
        _ if text[..start].ends_with('\n') => end,
        Some(line_break) => &end[line_break + 1..],
        None => end,
    }
}

/// The text in these bytes, safe to print on a terminal and to keep as a string in Kubernetes: valid UTF-8, terminal
/// sequences taken out, line ends as `\n`, any other control character replaced.
fn harmless(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\n' | '\t' => out.push(c),
            '\r' => {
                if rest.peek() != Some(&'\n') {
                    out.push('\n');
                }
            }
            // ECMA-48: a control sequence is ESC [, parameters and intermediates, and one final byte.
            '\u{1b}' if rest.next_if_eq(&'[').is_some() => {
                while rest.next_if(|c| matches!(c, '\u{20}'..='\u{3f}')).is_some() {}
                rest.next_if(|c| matches!(c, '\u{40}'..='\u{7e}'));
            }
            c if c.is_control() => out.push(char::REPLACEMENT_CHARACTER),
            c => out.push(c),
        }
    }
    out
}

/// The file that the kubelet reads when the container has ended.
#[derive(Debug)]
pub struct Message {
    path: PathBuf,
    empty: bool,
}

impl Message {
    /// The file, empty as the kubelet makes it.
    pub fn at(path: PathBuf) -> Message {
        Message { path, empty: true }
    }

    /// Replaces what is there.
    ///
    /// # Errors
    /// Those of opening, writing and truncating.
    pub fn write(&mut self, text: &str) -> io::Result<()> {
        // It is a mount of its own, so it can't be renamed over. Overwriting before cutting keeps the first line whole
        // at any moment: a kill in between leaves the end of the old text behind the new one.
        let file = File::options().write(true).create(true).truncate(false).open(&self.path)?;
        file.write_all_at(text.as_bytes(), 0)?;
        file.set_len(text.len() as u64)?;
        self.empty = text.is_empty();
        Ok(())
    }

    /// Empties it, unless this process has left it empty.
    ///
    /// # Errors
    /// As of [`Message::write`].
    pub fn clear(&mut self) -> io::Result<()> {
        if self.empty { Ok(()) } else { self.write("") }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use migration_gate_contract::{Outcome, Verdict};

    fn verdict() -> Report {
        Report::Verdict(Verdict {
            attempt: u32::MAX,
            pod_uid: "1f2e3d4c-0000-4000-8000-123456789abc".to_owned(),
            outcome: Outcome::Interrupted,
            exit_code: Some(i32::MIN),
            signal: Some(i32::MIN),
            start: Some(i64::MAX),
            end: Some(i64::MAX),
        })
    }

    fn message_of(output: &[u8]) -> String {
        let mut tail = Tail::default();
        tail.push(output);
        compose(&verdict(), &tail)
    }

    fn tail_of(output: &str) -> String {
        message_of(output.as_bytes()).split_once('\n').expect("a first line").1.to_owned()
    }

    #[test]
    fn output_is_made_harmless() {
        assert_eq!(tail_of(""), "");
        assert_eq!(tail_of("one\ntwo\n\n\n"), "one\ntwo\n");
        assert_eq!(tail_of("\u{1b}[1;31mERROR\u{1b}[0m: no\r\n"), "ERROR: no\n");
        assert_eq!(tail_of("10 %\r20 %\r"), "10 %\n20 %\n");
        assert_eq!(tail_of("a\0b\u{7}\u{9b}c\u{1b}"), "a\u{fffd}b\u{fffd}\u{fffd}c\u{fffd}\n");
    }

    #[test]
    fn long_output_is_cut_at_the_beginning_of_a_line() {
        let lines = |range: std::ops::Range<u32>| range.map(|n| format!("line {n:05}\n")).collect::<String>();
        let tail = tail_of(&lines(0..10_000));
        let first: u32 = tail[5..10].parse().expect("a whole line");
        assert_eq!(tail, lines(first..10_000));
        assert!(MESSAGE_BYTES - message_of(lines(0..10_000).as_bytes()).len() < 12, "a line more would have fitted");
    }

    #[test]
    fn a_line_that_is_too_long_keeps_its_end() {
        let tail = tail_of(&("ä".repeat(9_000) + "end"));
        assert!(tail.ends_with("äend\n") && tail.len() > 3_000, "{tail}");
    }

    #[test]
    fn a_sentence_of_the_agent_has_its_own_line() {
        let mut tail = Tail::default();
        tail.say("first");
        tail.push(b"no line end");
        tail.say("second");
        assert_eq!(
            compose(&verdict(), &tail).split_once('\n').expect("a first line").1,
            "first\nno line end\nsecond\n"
        );
    }

    proptest! {
        #[test]
        fn whatever_is_written_the_message_fits_and_the_verdict_survives(
            chunks in prop::collection::vec(prop_oneof![
                prop::collection::vec(any::<u8>(), 0..6_000),
                any::<String>().prop_map(String::into_bytes),
                (any::<char>(), 0..5_000_usize).prop_map(|(c, times)| c.to_string().repeat(times).into_bytes()),
            ], 0..8)
        ) {
            let mut tail = Tail::default();
            chunks.iter().for_each(|chunk| tail.push(chunk));
            prop_assert!(tail.bytes.len() <= 3 * KEPT);
            let message = compose(&verdict(), &tail);
            prop_assert!(message.len() <= MESSAGE_BYTES, "{} bytes", message.len());
            prop_assert_eq!(Report::parse(&message), Some(verdict()));
            prop_assert!(message.find('\n').expect("a first line") < VERDICT_BYTES);
            prop_assert!(!message.chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
        }
    }
}
