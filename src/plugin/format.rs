//! `-o`: for people, or for programs.

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::problem::Problem;
use super::terminal::print;

/// The form of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    #[value(hide = true)]
    Table,
    /// For people, with more columns and whole names
    Wide,
    /// For programs
    Json,
    /// For programs, and easier to read
    Yaml,
}

/// The option.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct Output {
    /// The form of the output
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t, hide_default_value = true)]
    pub(crate) output: Format,
}

impl Output {
    /// Writes a value in the form that was asked for; `people` makes the text for people.
    pub(crate) fn write<T: Serialize>(self, value: &T, people: impl FnOnce() -> String) -> Result<(), Problem> {
        let text = match self.output {
            Format::Table | Format::Wide => people(),
            Format::Json => {
                serde_json::to_string_pretty(value).map_err(|error| Problem::Output(error.to_string()))? + "\n"
            }
            Format::Yaml => serde_saphyr::to_string(value).map_err(|error| Problem::Output(error.to_string()))?,
        };
        print(&text)
    }

    /// Whether everything is to be shown.
    pub(crate) fn is_wide(self) -> bool {
        self.output == Format::Wide
    }

    /// Whether a person reads it.
    pub(crate) fn is_for_people(self) -> bool {
        matches!(self.output, Format::Table | Format::Wide)
    }
}
