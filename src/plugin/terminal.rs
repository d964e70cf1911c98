//! What a person sees: colours and motion on a terminal, plain text anywhere else.

use std::io::{BufRead, IsTerminal, Write};

use super::problem::Problem;

/// Where text goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Screen {
    /// Colours may be used.
    pub(crate) colours: bool,
    /// Lines may be overwritten.
    pub(crate) moves: bool,
    /// The characters of a line; no bound, if `None`.
    pub(crate) width: Option<usize>,
}

/// What a colour says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Nothing.
    #[default]
    Plain,
    /// All is well.
    Good,
    /// Something goes on.
    Busy,
    /// Somebody should look.
    Warn,
    /// It failed.
    Bad,
    /// It doesn't matter much.
    Dim,
    /// A heading.
    Strong,
}

/// The frames of a spinner.
const FRAMES: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];

impl Screen {
    /// Text that nobody looks at while it is written.
    pub(crate) const PLAIN: Screen = Screen { colours: false, moves: false, width: None };

    /// What standard output is.
    pub(crate) fn of_stdout() -> Screen {
        Screen::of(&std::io::stdout(), rustix::termios::tcgetwinsize(std::io::stdout()).ok())
    }

    /// What standard error is.
    pub(crate) fn of_stderr() -> Screen {
        Screen::of(&std::io::stderr(), rustix::termios::tcgetwinsize(std::io::stderr()).ok())
    }

    fn of(stream: &impl IsTerminal, size: Option<rustix::termios::Winsize>) -> Screen {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        // Source: no-color.org: present and not empty.
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let moves = stream.is_terminal() && !dumb;
        let width = size.map(|size| usize::from(size.ws_col)).filter(|width| moves && *width > 0);
        Screen { colours: moves && !no_color, moves, width }
    }

    /// Text in a tone.
    pub(crate) fn paint(&self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Good => "32",
            Tone::Busy => "36",
            Tone::Warn => "33",
            Tone::Bad => "31",
            Tone::Dim => "2",
            Tone::Strong => "1",
        };
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// The spinner at a tick.
pub(crate) fn spinner(tick: usize) -> char {
    FRAMES[tick % FRAMES.len()]
}

/// Text that came from elsewhere, on one line and without anything that a terminal would obey.
pub(crate) fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}

/// Writes to standard output. A reader that has gone away, as `head` does, is no error.
pub(crate) fn print(text: &str) -> Result<(), Problem> {
    let mut output = std::io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Problem::Output(error.to_string())),
        _ => Ok(()),
    }
}

/// What a person answered, or why nobody could be asked.
pub(crate) enum Consent {
    /// Given with `--yes`.
    Given,
    /// Ask on the terminal.
    Ask,
}

impl Consent {
    /// From `--yes`.
    pub(crate) fn from_yes(yes: bool) -> Consent {
        if yes { Consent::Given } else { Consent::Ask }
    }

    /// Asks a question, unless the answer was given.
    ///
    /// # Errors
    /// If the answer is no, or nobody can answer.
    pub(crate) fn obtain(&self, question: &str) -> Result<(), Problem> {
        if matches!(self, Consent::Given) {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() {
            return Err(Problem::Usage(format!("{question} Nobody can be asked here: give --yes to say so")));
        }
        eprint!("{question} [y/N] ");
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer).map_err(|error| Problem::Usage(error.to_string()))?;
        match answer.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => Err(Problem::Usage("nothing was done".to_owned())),
        }
    }
}

/// One line on standard error that says what is waited for: overwritten on a terminal, said once elsewhere.
pub(crate) struct Progress {
    screen: Screen,
    tick: usize,
    said: String,
}

impl Progress {
    /// Nothing is said yet.
    pub(crate) fn new() -> Progress {
        Progress { screen: Screen::of_stderr(), tick: 0, said: String::new() }
    }

    /// Says what goes on now.
    pub(crate) fn say(&mut self, text: &str, elapsed: std::time::Duration) {
        if self.screen.moves {
            let line = format!("{} {text} ({} s)", spinner(self.tick), elapsed.as_secs());
            let cut: String = line.chars().take(self.screen.width.unwrap_or(usize::MAX)).collect();
            eprint!("\r\x1b[2K{cut}");
            self.tick += 1;
        } else if self.said != text {
            eprintln!("{text}");
        }
        text.clone_into(&mut self.said);
    }

    /// Ends the line.
    pub(crate) fn clear(&mut self) {
        if self.screen.moves && !self.said.is_empty() {
            eprint!("\r\x1b[2K");
        }
        self.said.clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
