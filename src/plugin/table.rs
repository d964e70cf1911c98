//! Tables as kubectl writes them: columns under headings, three spaces between.

use super::terminal::{Screen, Tone, harmless};

/// What stands between two columns.
const GAP: &str = "   ";
/// What an empty cell shows.
const NOTHING: &str = "-";

/// A cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell in a tone.
    pub(crate) fn new(text: impl AsRef<str>, tone: Tone) -> Cell {
        Cell { text: harmless(text.as_ref()), tone }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell::new(text, Tone::Plain)
    }
}

/// A table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(headings: &[&'static str]) -> Table {
        Table { headings: headings.to_vec(), rows: Vec::new() }
    }

    /// One more row, with a cell for each heading.
    pub(crate) fn push(&mut self, row: Vec<Cell>) {
        debug_assert_eq!(row.len(), self.headings.len());
        self.rows.push(row);
    }

    /// The table as text. What doesn't fit on a terminal's line is cut off the last column.
    pub(crate) fn render(&self, screen: &Screen) -> String {
        let heading = self.headings.iter().map(|text| Cell::new(text, Tone::Strong)).collect();
        let rows: Vec<&Vec<Cell>> = std::iter::once(&heading).chain(&self.rows).collect();
        let width = |column: usize| rows.iter().map(|row| chars(shown(&row[column]))).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.headings.len()).map(width).collect();
        let mut text = String::new();
        for row in rows {
            text.push_str(&line(row, &widths, screen));
            text.push('\n');
        }
        text
    }
}

fn line(row: &[Cell], widths: &[usize], screen: &Screen) -> String {
    let mut line = String::new();
    let mut used = 0;
    for (at, (cell, width)) in row.iter().zip(widths).enumerate() {
        let last = at + 1 == row.len();
        let room = screen.width.map_or(usize::MAX, |total| total.saturating_sub(used));
        let text = if last { cut(shown(cell), room) } else { shown(cell).to_owned() };
        line.push_str(&screen.paint(cell.tone, &text));
        if !last {
            line.push_str(&" ".repeat(width - chars(&text)));
            line.push_str(GAP);
            used += width + GAP.len();
        }
    }
    line.trim_end().to_owned()
}

fn shown(cell: &Cell) -> &str {
    if cell.text.is_empty() { NOTHING } else { &cell.text }
}

fn chars(text: &str) -> usize {
    text.chars().count()
}

/// The first characters of a text, with a sign that there were more. A line that is too short for anything useful
/// is left to the terminal to wrap.
fn cut(text: &str, room: usize) -> String {
    const LEAST: usize = 12;
    let room = room.max(LEAST);
    if chars(text) <= room {
        return text.to_owned();
    }
    text.chars().take(room - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["NAME", "PHASE", "LAST LINE"]);
        table.push(vec!["orders".into(), Cell::new("Failed", Tone::Bad), "no such column: é\u{1b}[2J and more".into()]);
        table.push(vec!["a-longer-name".into(), "Succeeded".into(), "".into()]);
        table
    }

    #[test]
    fn columns_stand_under_their_headings() {
        let expected = "\
NAME            PHASE       LAST LINE
orders          Failed      no such column: é [2J and more
a-longer-name   Succeeded   -
";
        assert_eq!(table().render(&Screen::PLAIN), expected);
    }

    #[test]
    fn on_a_terminal_there_are_colours_and_an_end() {
        let screen = Screen { colours: true, moves: true, width: Some(42) };
        let text = table().render(&screen);
        let line = text.lines().nth(1).expect("the first row");
        assert_eq!(line, "orders          \u{1b}[31mFailed\u{1b}[0m      no such colum…");
    }
}
