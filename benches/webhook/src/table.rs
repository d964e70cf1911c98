//! Tables in Markdown, whose columns line up for people who read the source too.

/// A table.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these heads.
    pub fn new(heads: &[&str]) -> Table {
        Table { rows: vec![heads.iter().map(|&head| head.to_owned()).collect()] }
    }

    /// One more row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The table as text.
    pub fn text(&self) -> String {
        let columns = self.rows[0].len();
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let line = |row: &[String]| {
            let cells = row.iter().zip(&widths).map(|(cell, &width)| format!(" {cell:<width$} "));
            format!("|{}|\n", cells.collect::<Vec<_>>().join("|"))
        };
        let rule = widths.iter().map(|&width| "-".repeat(width + 2)).collect::<Vec<_>>().join("|");
        let body: String = self.rows[1..].iter().map(|row| line(row)).collect();
        format!("{}|{rule}|\n{body}", line(&self.rows[0]))
    }
}

/// The value that so many thousandths of the values don't exceed.
pub fn quantile<T: Copy + Ord>(values: &mut [T], thousandths: usize) -> Option<T> {
    values.sort_unstable();
    values.get((values.len() * thousandths / 1000).min(values.len().checked_sub(1)?)).copied()
}
