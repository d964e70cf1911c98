//! The page as HTML. Every text goes through the template, which escapes it; nothing here is written past it.

use jiff::Timestamp;
use maud::{DOCTYPE, Markup, html};

use crate::controller::shown::short;
use crate::controller::standing::{for_people, phase_word};
use crate::migration::Phase;

use super::draw::{self, outcome_word};
use super::overview::{Overview, Question};
use super::view::{Group, Mood, PODS, Shown, Tried};

/// Who answers, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    /// The replica's name.
    pub(super) replica: String,
    /// It acts; otherwise another one does.
    pub(super) leads: bool,
    /// When the API server brought something last.
    pub(super) heard: Option<Timestamp>,
    /// The present.
    pub(super) now: Timestamp,
}

/// How long the API server may bring nothing: nodes say something every five minutes. Source: Kubernetes, "Node Status",
/// heartbeats; the alert MigrationGateWatchStale has the same bound.
const SILENCE: jiff::SignedDuration = jiff::SignedDuration::from_secs(900);

/// A whole document around the part that changes.
pub(super) fn document(moment: &Moment, title: &str, still: Option<String>, main: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                link rel="icon" type="image/svg+xml" href="/icon.svg";
                link rel="stylesheet" href="/page.css";
                script src="/page.js" defer {}
                @if still.is_some() { noscript { meta http-equiv="refresh" content="10"; } }
            }
            body {
                a.skip href="#main" { "To the content" }
                header.top {
                    a.brand href="/" { (draw::gate()) span { "migration-gate" } }
                    p.replica { (replica(moment)) }
                    p.stamp {
                        span #live role="status" { "as of" } " "
                        time #stamp datetime=(stamp(moment.now)) { (moment.now.strftime("%H:%M:%S")) } " UTC"
                    }
                }
                @if let Some(still) = still {
                    noscript { p.note { "This page is loaded anew every 10 seconds. " a href=(still) { "Keep it still" } } }
                }
                (main)
                footer {
                    p { "Read-only. Times are UTC. Log tails are what the record keeps of the newest failure, and what pods that still exist said last; a running attempt's log is not read here." }
                    p { "The same for programs: " a href="/api/groups" { "/api/groups" } }
                }
            }
        }
    }
}

fn replica(moment: &Moment) -> Markup {
    let silent = moment.heard.is_none_or(|heard| moment.now.duration_since(heard) > SILENCE);
    html! {
        "replica " b { (moment.replica) } " "
        @if moment.leads { "leads" } @else { "watches; another one acts" }
        @if silent { strong.bad { " — it has heard nothing of the cluster for a long time: what is shown may be old" } }
    }
}

/// The part that changes, where there is only a sentence to say.
pub(super) fn sentence(heading: &str, text: &str) -> Markup {
    html! { main #main tabindex="-1" { h1 { (heading) } p { (text) } p { a href="/" { "All groups" } } } }
}

/// What a browser shows of the list in its tab.
pub(super) fn overview_title(overview: &Overview) -> String {
    let counted = overview.counts.iter().filter(|(mood, count)| *mood != Mood::Rest && *count > 0);
    let parts: Vec<String> =
        counted.map(|(mood, count)| format!("{count} {}", mood_word(*mood).to_lowercase())).collect();
    let title = "migration-gate";
    if parts.is_empty() { title.to_owned() } else { format!("{} – {title}", parts.join(", ")) }
}

fn mood_word(mood: Mood) -> &'static str {
    match mood {
        Mood::Held => "Held",
        Mood::Running => "Running",
        Mood::Waiting => "Waiting",
        Mood::Rest => "At rest",
    }
}

/// The list.
pub(super) fn overview(overview: &Overview, now: Timestamp) -> Markup {
    let question = &overview.question;
    let none = overview.moving.is_empty() && overview.resting.is_empty();
    html! {
        main #main tabindex="-1" {
            h1.unseen { "Migrations" }
            div.bar {
                nav.moods aria-label="Only groups that are" { (moods(overview)) }
                form.find action="/" role="search" {
                    @if let Some(mood) = question.show { input type="hidden" name="show" value=(mood.word()); }
                    label.unseen for="find" { "Namespace or name" }
                    input #find type="search" name="find" value=(question.find) maxlength="100" placeholder="namespace or name";
                    button { "Find" }
                }
            }
            @if none {
                p.empty {
                    @if question.show.is_none() && question.find.is_empty() {
                        "No workload has asked for a migration yet. Label a namespace "
                        code { "migration-gate.dev/inject=enabled" } " and a Deployment "
                        code { "migration-gate.dev/gated=true" } ", and it appears here."
                    } @else { "No group is like that. " a href="/" { "All groups" } }
                }
            }
            @if !overview.moving.is_empty() {
                section aria-label="Moving" { @for group in &overview.moving { (card(group, now)) } }
            }
            @if !overview.resting.is_empty() {
                section aria-labelledby="rest" {
                    h2 #rest { "At rest" }
                    ul.rest { @for group in &overview.resting { (row(group, now)) } }
                }
            }
            @if overview.pages > 1 { (pages(overview)) }
        }
    }
}

fn moods(overview: &Overview) -> Markup {
    let question = &overview.question;
    let all: usize = overview.counts.iter().map(|(_, count)| count).sum();
    let to = |show: Option<Mood>| Question { show, page: 1, ..question.clone() }.address();
    html! {
        a.mood href=(to(None)) aria-current=[question.show.is_none().then_some("true")] { b { (all) } " all" }
        @for (mood, count) in &overview.counts {
            a.mood.(mood.word()).none[*count == 0] href=(to(Some(*mood))) aria-current=[(question.show == Some(*mood)).then_some("true")] {
                span.dot {} b { (count) } " " (mood_word(*mood).to_lowercase())
            }
        }
    }
}

fn pages(overview: &Overview) -> Markup {
    let question = &overview.question;
    let to = |page: usize| Question { page, ..question.clone() }.address();
    html! {
        nav.pages aria-label="Pages" {
            @if question.page > 1 { a rel="prev" href=(to(question.page - 1)) { "← before" } }
            span { "page " (question.page) " of " (overview.pages) }
            @if question.page < overview.pages { a rel="next" href=(to(question.page + 1)) { "more →" } }
        }
    }
}

fn address(group: &Group) -> String {
    format!("/groups/{}/{}", group.namespace, group.name)
}

fn title(group: &Group) -> String {
    match group.workloads.is_empty() {
        true => group.name.strip_suffix(".deployment").unwrap_or(&group.name).to_owned(),
        false => group.workloads.join(", "),
    }
}

/// A group that moves.
fn card(group: &Group, now: Timestamp) -> Markup {
    html! {
        article.card.(group.mood.word()).suspended[group.phase == Some(Phase::Suspended)] id={ "group/" (group.namespace) "/" (group.name) } {
            header {
                h2 { a href=(address(group)) { span.namespace { (group.namespace) "/" } (title(group)) } }
                (badge(group, now))
            }
            (what(group.migration.as_ref()))
            (draw::timeline(group, now))
            p.says { (group.message) }
            (last_words(group))
        }
    }
}

/// What a group's phase is called, and for how long it has been so.
fn badge(group: &Group, now: Timestamp) -> Markup {
    let word = match (group.mood, group.phase) {
        (Mood::Held, Some(Phase::Failed)) => "Failed",
        (Mood::Held, Some(Phase::Suspended)) => "Suspended",
        (Mood::Held, None) => "Unreadable",
        (Mood::Held, Some(_)) => "Stalled",
        (_, Some(phase)) => phase_word(phase),
        (_, None) => "Pending",
    };
    html! {
        p.badge.(group.mood.word()).suspended[group.phase == Some(Phase::Suspended)] {
            span.dot {} b { (word) }
            @if let Some(since) = group.since { " " (age(since, now)) }
        }
    }
}

/// What would be or was run.
fn what(migration: Option<&Shown>) -> Markup {
    html! {
        p.what {
            @if let Some(migration) = migration {
                @if !migration.image.is_empty() { code.image { (migration.image) } " " }
                @if !migration.command.is_empty() { code.command { (migration.command) } " " }
                span.print title=(migration.fingerprint) { (short(&migration.fingerprint)) }
                @if let Some(revision) = &migration.revision { " revision " code { (revision) } }
                @if let Some(limit) = migration.limit.filter(|_| migration.failures > 0) {
                    span.failures { (migration.failures) " of " (limit) " failures" }
                }
            } @else { "no migration is known yet" }
        }
    }
}

/// The newest log's last line, which opens the whole tail; or what else is to be said in its place.
fn last_words(group: &Group) -> Markup {
    let migration = group.migration.as_ref();
    let last = migration.and_then(|migration| migration.attempts.last());
    html! {
        @if let Some((attempt, tail)) = migration.and_then(Shown::tail) {
            details.log {
                summary {
                    span.of { "log of attempt " (attempt.number) }
                    code { (tail.trim_end().lines().last().unwrap_or_default()) }
                }
                pre tabindex="0" { (tail) }
            }
        } @else if let Some((verb, does)) = verbs(group).first() {
            p.log.none { code { (typed(group, verb)) } " " (does) }
        } @else {
            p.log.none { @if let Some(last) = last { (draw::sentence(last)) } }
        }
    }
}

/// A group at rest.
fn row(group: &Group, now: Timestamp) -> Markup {
    html! {
        li id={ "group/" (group.namespace) "/" (group.name) } {
            a href=(address(group)) { span.namespace { (group.namespace) "/" } (title(group)) }
            code.image { (group.migration.as_ref().map_or("", |migration| &migration.image)) }
            span.tries { (draw::tries(group.migration.as_ref())) }
            span.when {
                (group.phase.map_or("nothing yet", phase_word))
                @if let Some(since) = group.since { " " (age(since, now)) " ago" }
            }
        }
    }
}

/// One group on a page of its own.
pub(super) fn group(group: &Group, now: Timestamp) -> Markup {
    html! {
        main #main tabindex="-1" {
            nav.crumbs aria-label="Where this is" { a href="/" { "All groups" } " / " (group.namespace) " / " (group.name) }
            article.card.whole.(group.mood.word()).suspended[group.phase == Some(Phase::Suspended)] {
                header { h1 { (title(group)) } (badge(group, now)) }
                (what(group.migration.as_ref()))
                (draw::timeline(group, now))
                p.says { (group.message) }
                (last_words(group))
                (next_steps(group))
            }
            @if let Some(migration) = &group.migration {
                section aria-labelledby="attempts" { h2 #attempts { "Attempts" } (attempts(migration, now)) }
            }
            section aria-labelledby="pods" { h2 #pods { "Waiting pods (" (group.waiting) ")" } (pods(group, now)) }
            @if !group.orders.is_empty() {
                section aria-labelledby="orders" { h2 #orders { "Orders" } (orders(group)) }
            }
            @if !group.earlier.is_empty() {
                section aria-labelledby="earlier" {
                    h2 #earlier { "Other migrations" }
                    @for migration in &group.earlier {
                        details.earlier id={ "migration/" (migration.fingerprint) } {
                            summary {
                                b { (phase_word(migration.phase)) } " " code.image { (migration.image) } " "
                                span.tries { (draw::tries(Some(migration))) } " "
                                span.print title=(migration.fingerprint) { (short(&migration.fingerprint)) }
                            }
                            p.what { code.command { (migration.command) } }
                            (attempts(migration, now))
                        }
                    }
                }
            }
        }
    }
}

/// What a person can type now, and what it does: this page changes nothing.
fn verbs(group: &Group) -> &'static [(&'static str, &'static str)] {
    match (group.mood, group.phase) {
        (Mood::Held, Some(Phase::Failed)) => &[("explain", "says what holds its pods"), ("retry", "tries again")],
        (Mood::Held, Some(Phase::Suspended)) => &[("approve", "lets it run")],
        (Mood::Held, Some(_)) => &[("confirm-dead", "shows the evidence, and asks"), ("explain", "says what holds it")],
        (Mood::Running, _) => &[("logs", "follows its log")],
        (Mood::Waiting, _) => &[("explain", "says what it waits for")],
        _ => &[],
    }
}

fn typed(group: &Group, verb: &str) -> String {
    let subject = match group.workloads.first() {
        Some(workload) => workload.clone(),
        None => format!("migrationgate/{}", group.name),
    };
    format!("kubectl migration-gate {verb} {subject} -n {}", group.namespace)
}

fn next_steps(group: &Group) -> Markup {
    html! {
        ul.verbs aria-label="What can be done" {
            @for (verb, does) in verbs(group) { li { code { (typed(group, verb)) } " " span { (does) } } }
        }
    }
}

fn attempts(migration: &Shown, now: Timestamp) -> Markup {
    html! {
        @if migration.attempts.is_empty() { p.empty { "none yet" } } @else {
            div.wide tabindex="0" role="region" aria-label="Attempts" {
                table {
                    thead { tr { th { "attempt" } th { "outcome" } th { "pod" } th { "node" } th { "took" } th { "elected" } th { "because" } } }
                    tbody { @for attempt in migration.attempts.iter().rev() { (attempt_row(attempt, now)) } }
                }
            }
        }
    }
}

fn attempt_row(attempt: &Tried, now: Timestamp) -> Markup {
    let took = match (attempt.took, attempt.outcome) {
        (Some(took), _) => for_people(jiff::SignedDuration::from_millis(took)),
        (None, None) => for_people(now.duration_since(attempt.from)),
        (None, Some(_)) => "–".to_owned(),
    };
    let code = match (attempt.exit_code, attempt.signal) {
        (Some(code), _) => Some(format!("exit code {code}")),
        (None, Some(signal)) => Some(format!("signal {signal}")),
        (None, None) => None,
    };
    let because: Vec<&str> = code.iter().chain(&attempt.evidence).map(String::as_str).collect();
    html! {
        tr id={ "attempt/" (attempt.number) } {
            td.number { (attempt.number) }
            td { span.outcome.(draw::class(attempt.outcome)) { (outcome_word(attempt.outcome)) } }
            td { (attempt.pod) }
            td { (attempt.node.as_deref().unwrap_or("–")) }
            td.number { (took) }
            td.number { (clock(attempt.from, now)) }
            td { (because.join(", ")) }
        }
        @if let Some(tail) = &attempt.tail {
            tr.tail id={ "tail/" (attempt.number) } { td {} td colspan="6" { pre { (tail) } } }
        }
    }
}

fn pods(group: &Group, now: Timestamp) -> Markup {
    html! {
        @if group.pods.is_empty() { p.empty { "no pod waits" } } @else {
            div.wide tabindex="0" role="region" aria-label="Waiting pods" {
                table {
                    thead { tr { th { "pod" } th { "node" } th { "waits for" } th { "state" } } }
                    tbody {
                        @for pod in &group.pods {
                            tr id={ "pod/" (pod.name) } {
                                td { (pod.name) }
                                td { (pod.node.as_deref().unwrap_or("–")) }
                                td.number { (age(pod.created, now)) }
                                td { (pod.state) }
                            }
                        }
                    }
                }
            }
            @if group.waiting as usize > PODS { p { "and " (group.waiting as usize - PODS) " more" } }
        }
    }
}

fn orders(group: &Group) -> Markup {
    html! {
        div.wide tabindex="0" role="region" aria-label="Orders" {
            table {
                thead { tr { th { "order" } th { "migration" } th { "attempt" } th { "by" } th { "reason" } th { "answer" } } }
                tbody {
                    @for order in &group.orders {
                        tr {
                            td { (order.action) }
                            td { (short(&order.fingerprint)) }
                            td.number { @if order.attempt > 0 { (order.attempt) } @else { "–" } }
                            td { (order.by) } td { (order.reason) } td { (order.answer) }
                        }
                    }
                }
            }
        }
    }
}

/// How long ago, with the whole time behind it.
fn age(since: Timestamp, now: Timestamp) -> Markup {
    html! { time datetime=(stamp(since)) title=(stamp(since)) { (for_people(now.duration_since(since))) } }
}

/// A time of the day; of another day with its date.
pub(super) fn clock(time: Timestamp, now: Timestamp) -> Markup {
    let same = time.strftime("%F").to_string() == now.strftime("%F").to_string();
    let format = if same { "%H:%M:%S" } else { "%b %-d %H:%M" };
    html! { time datetime=(stamp(time)) title=(stamp(time)) { (time.strftime(format)) } }
}

fn stamp(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
