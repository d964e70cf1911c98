//! The pictures: lines of time, drawn as SVG in percent, because a strict policy allows no style in the text.

use jiff::Timestamp;
use maud::{Markup, html};

use crate::controller::standing::for_people;
use crate::migration::AttemptOutcome;

use super::render::clock;
use super::timeline::{Bar, Timeline};
use super::view::{Group, Mood, Shown, Tried};

/// How near two numbers may be, in percent of the line; a phone's is 330 pixels long.
const ROOM: f64 = 8.0;
/// How wide a bar must be to hold its number.
const WIDE: f64 = 12.0;

/// The mark of the product: a gate with an open wing.
pub(super) fn gate() -> Markup {
    html! {
        svg.gate width="20" height="20" viewBox="0 0 20 20" aria-hidden="true" {
            path d="M3 18V2M17 18V2M3 6h6v8H3M17 6l-4-2v8l4 2" {}
        }
    }
}

/// An outcome's word.
pub(super) fn outcome_word(outcome: Option<AttemptOutcome>) -> &'static str {
    match outcome {
        None => "running",
        Some(AttemptOutcome::Succeeded) => "succeeded",
        Some(AttemptOutcome::Failed) => "failed",
        Some(AttemptOutcome::TimedOut) => "timed out",
        Some(AttemptOutcome::Interrupted) => "interrupted",
        Some(AttemptOutcome::NotStarted) => "not started",
    }
}

/// An outcome's class.
pub(super) fn class(outcome: Option<AttemptOutcome>) -> &'static str {
    match outcome {
        None => "runs",
        Some(AttemptOutcome::Succeeded) => "good",
        Some(AttemptOutcome::Failed | AttemptOutcome::TimedOut) => "bad",
        Some(AttemptOutcome::Interrupted) => "cut",
        Some(AttemptOutcome::NotStarted) => "not",
    }
}

/// An outcome's sign: nobody should need the colour.
fn sign(outcome: Option<AttemptOutcome>) -> &'static str {
    match outcome {
        None => " …",
        Some(AttemptOutcome::Succeeded) => " ✓",
        Some(AttemptOutcome::Failed | AttemptOutcome::TimedOut) => " ✕",
        Some(AttemptOutcome::Interrupted) => " !",
        Some(AttemptOutcome::NotStarted) => " –",
    }
}

/// A group's line of time, and under it who waits. Always of the same height, so that nothing below it moves.
pub(super) fn timeline(group: &Group, now: Timestamp) -> Markup {
    let line = group.timeline.as_ref();
    html! {
        svg.time width="100%" height="50" role="img" aria-label=(told(group, now)) {
            rect.track x="0" y="16" width="100%" height="20" rx="4" {}
            @if let Some(line) = line {
                @if let Some(next) = line.next {
                    rect.next x={ (at(next)) "%" } y="17" width={ (at(100.0 - next)) "%" } height="18" rx="3" {}
                }
                @for (bar, label) in labelled(line) { (attempt(group, bar, label)) }
                (waiting(line))
                @if let Some(place) = line.now.filter(|place| *place < 99.5) {
                    line.now x1={ (at(place)) "%" } x2={ (at(place)) "%" } y1="12" y2="50" {}
                }
            }
        }
        p.axis {
            @if let Some(line) = line {
                span { (clock(line.from, now)) }
                span.waiting { @if group.waiting > 0 { (pods(group.waiting)) } }
                span { (right_end(group, line, now)) }
            } @else { span { "nothing happened yet" } span.waiting {} span {} }
        }
    }
}

fn right_end(group: &Group, line: &Timeline, now: Timestamp) -> Markup {
    html! {
        @if let Some(next) = group.next { "tried again in " (for_people(next.duration_since(now))) }
        @else if matches!(group.mood, Mood::Running | Mood::Waiting) { "now" }
        @else { (clock(line.to, now)) }
    }
}

fn pods(count: u32) -> String {
    if count == 1 { "1 pod waits".to_owned() } else { format!("{count} pods wait") }
}

/// Where a bar's number is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Label {
    /// In the bar.
    Inside,
    /// Over the bar.
    Above,
    /// There is no room.
    Nowhere,
}

/// Bars, and where there is room for each one's number.
fn labelled(line: &Timeline) -> Vec<(&Bar, Label)> {
    let mut free = 0.0;
    let mut label = |bar: &Bar| match () {
        () if bar.width >= WIDE => Label::Inside,
        () if bar.left < free => Label::Nowhere,
        () => {
            free = bar.left + ROOM;
            Label::Above
        }
    };
    line.bars.iter().map(|bar| (bar, label(bar))).collect()
}

fn attempt(group: &Group, bar: &Bar, label: Label) -> Markup {
    let attempts = group.migration.iter().flat_map(|migration| &migration.attempts);
    let tried = attempts.into_iter().find(|tried| tried.number == bar.attempt);
    let right = label == Label::Above && bar.left > 92.0;
    let x = if right { 100.0 } else { bar.left };
    html! {
        g.(class(bar.outcome)) {
            @if let Some(tried) = tried { title { (sentence(tried)) } }
            rect.bar.(class(bar.outcome)) x={ (at(bar.left)) "%" } y="16" width={ (at(bar.width)) "%" } height="20" rx="3" {}
            @match label {
                Label::Inside => text.in x={ (at(x)) "%" } dx="6" y="30" { (bar.attempt) (sign(bar.outcome)) },
                Label::Above => text x={ (at(x)) "%" } y="11" text-anchor=[right.then_some("end")] { (bar.attempt) (sign(bar.outcome)) },
                Label::Nowhere => {},
            }
        }
    }
}

/// How many pods waited when: steps that grow to the right, as high as there is room for.
fn waiting(line: &Timeline) -> Markup {
    let Some((start, _)) = line.waiting.first() else { return html! {} };
    let most = line.waiting.last().map_or(1, |(_, count)| *count).max(1);
    let end = line.now.unwrap_or(100.0);
    let mut path = format!("M{} 100", at(start * 10.0));
    for (place, count) in &line.waiting {
        let height = 100.0 - f64::from(*count) / f64::from(most) * 100.0;
        path.push_str(&format!("H{}V{}", at(place * 10.0), at(height)));
    }
    path.push_str(&format!("H{}V100Z", at(end * 10.0)));
    html! {
        svg x="0" y="41" width="100%" height="9" viewBox="0 0 1000 100" preserveAspectRatio="none" { path.pods d=(path) {} }
    }
}

/// A number for an attribute.
fn at(place: f64) -> String {
    format!("{place:.2}")
}

/// What the picture shows, for who doesn't see it.
fn told(group: &Group, now: Timestamp) -> String {
    let attempts = group.migration.iter().flat_map(|migration| &migration.attempts);
    let mut parts: Vec<String> = attempts
        .map(|tried| match tried.outcome {
            None => {
                format!("attempt {} has been running for {}", tried.number, for_people(now.duration_since(tried.from)))
            }
            Some(_) => sentence(tried),
        })
        .collect();
    if parts.is_empty() {
        parts.push("no attempt yet".to_owned());
    }
    if group.waiting > 0 {
        parts.push(pods(group.waiting));
    }
    parts.join("; ")
}

pub(super) fn sentence(tried: &Tried) -> String {
    let took = tried
        .took
        .map_or_else(String::new, |took| format!(" after {}", for_people(jiff::SignedDuration::from_millis(took))));
    format!("attempt {} {}{took} in pod {}", tried.number, outcome_word(tried.outcome), tried.pod)
}

/// The attempts of a migration as small signs.
pub(super) fn tries(migration: Option<&Shown>) -> Markup {
    html! {
        @for tried in migration.iter().flat_map(|migration| &migration.attempts) {
            span.try.(class(tried.outcome)) title=(sentence(tried)) { (sign(tried.outcome).trim()) }
        }
    }
}
