//! `GET /`, `/groups/NAMESPACE/NAME`, and both as JSON under `/api/groups`. Nothing can be changed here.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::Timestamp;
use maud::Markup;
use serde::Serialize;
use tokio::sync::{Semaphore, watch};

use crate::controller::objects::GroupKey;
use crate::controller::snapshot::Live;
use crate::controller::watch::{Cache, Synced};
use crate::metrics::{ControllerMetrics, Label, Watched};

use super::overview::{Chosen, Overview, Question};
use super::render::{self, Moment};
use super::view::{Depth, Group};

/// The policy that the browser holds the page to: files of this server, no script or style in the text, nobody's frame.
/// What is loaded anew is parsed as a document, never written as text, so that no trusted type is needed at all.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// What every answer says. Names and log tails are not to be kept on a disk, and no other site is to look at them.
const HEADERS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

const STYLE: &str = include_str!("assets/page.css");
const SCRIPT: &str = include_str!("assets/page.js");
const ICON: &str = include_str!("assets/icon.svg");

/// What the page shows: the controller's own view of the cluster.
pub struct Source {
    /// What the watches brought.
    pub cache: Arc<Cache>,
    /// Whether they have brought everything once.
    pub synced: Synced,
    /// When they brought something last.
    pub metrics: Arc<ControllerMetrics>,
    /// Whether this replica acts.
    pub leading: watch::Receiver<bool>,
    /// This replica's name.
    pub replica: String,
}

struct Page {
    source: Source,
    /// One page is made at a time: that bounds the memory, and the time that the index is held.
    turn: Semaphore,
}

/// The routes.
pub fn router(source: Source) -> Router {
    let file = |kind: &'static str, text: &'static str| get(async move || ([(header::CONTENT_TYPE, kind)], text));
    Router::new()
        .route("/", get(overview))
        .route("/groups/{namespace}/{name}", get(group))
        .route("/api/groups", get(overview_json))
        .route("/api/groups/{namespace}/{name}", get(group_json))
        .with_state(Arc::new(Page { source, turn: Semaphore::new(1) }))
        .route("/page.css", file("text/css; charset=utf-8", STYLE))
        .route("/page.js", file("text/javascript; charset=utf-8", SCRIPT))
        .route("/icon.svg", file("image/svg+xml", ICON))
        .layer(map_response(async |mut answer: Response| {
            for (name, value) in HEADERS {
                answer.headers_mut().insert(name, HeaderValue::from_static(value));
            }
            answer
        }))
}

impl Page {
    fn moment(&self) -> Moment {
        let heard = Watched::ALL.iter().map(|watched| self.source.metrics.last_event.of(*watched).get()).max();
        Moment {
            replica: self.source.replica.clone(),
            leads: *self.source.leading.borrow(),
            heard: heard.filter(|heard| *heard > 0).and_then(|heard| Timestamp::from_second(heard).ok()),
            now: Timestamp::now(),
        }
    }

    /// The list; none before everything was read once.
    fn overview(&self, question: Question, now: Timestamp) -> Option<Overview> {
        if !self.source.synced.is_complete() {
            return None;
        }
        let chosen = Chosen::from(&self.source.cache.index(), question, now);
        // One group at a time, so that nobody waits for the index for long.
        Some(chosen.seen(|entry| self.group(&entry.key, Depth::Listed, now)))
    }

    fn group(&self, key: &GroupKey, depth: Depth, now: Timestamp) -> Option<Group> {
        let snapshot = self.source.cache.index().snapshot(key, Live::default())?;
        Some(Group::of(&snapshot, depth, now))
    }
}

const TOO_EARLY: &str = "This replica has not read the whole cluster yet. That takes some seconds after its start.";

async fn overview(State(page): State<Arc<Page>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let _turn = page.turn.acquire().await;
    let (moment, question) = (page.moment(), Question::parse(query.as_deref().unwrap_or_default()));
    let Some(overview) = page.overview(question, moment.now) else { return too_early(&moment) };
    let main = render::overview(&overview, moment.now);
    let question = Question { still: true, ..overview.question.clone() };
    let still = (!overview.question.still).then(|| question.address());
    html(&headers, &moment, &render::overview_title(&overview), still, &main)
}

async fn group(
    State(page): State<Arc<Page>>,
    Path((namespace, name)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let _turn = page.turn.acquire().await;
    let moment = page.moment();
    if !page.source.synced.is_complete() {
        return too_early(&moment);
    }
    let key = GroupKey { namespace, name };
    let Some(group) = page.group(&key, Depth::Whole, moment.now) else {
        let main =
            render::sentence("No such group", "Nothing is known of a group of that name: it may be gone by now.");
        return (StatusCode::NOT_FOUND, render::document(&moment, "No such group", None, &main).into_string())
            .into_html();
    };
    let title = format!("{} in {} – migration-gate", group.name, group.namespace);
    let main = render::group(&group, moment.now);
    let still = !Question::parse(query.as_deref().unwrap_or_default()).still;
    html(&headers, &moment, &title, still.then(|| "?still=1".to_owned()), &main)
}

fn too_early(moment: &Moment) -> Response {
    let main = render::sentence("One moment", TOO_EARLY);
    (
        StatusCode::SERVICE_UNAVAILABLE,
        render::document(moment, "migration-gate", Some("?still=1".to_owned()), &main).into_string(),
    )
        .into_html()
}

/// The document, or the word that the part that changes has not changed.
fn html(headers: &HeaderMap, moment: &Moment, title: &str, still: Option<String>, main: &Markup) -> Response {
    let mut hasher = DefaultHasher::new();
    (main.0.as_str(), title, &moment.replica, moment.leads).hash(&mut hasher);
    let tag = format!("\"{:016x}\"", hasher.finish());
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut answer = match known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => (StatusCode::OK, render::document(moment, title, still, main).into_string()).into_html(),
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        answer.headers_mut().insert(header::ETAG, tag);
    }
    answer
}

fn json(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => ([(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

trait IntoHtml {
    fn into_html(self) -> Response;
}

impl IntoHtml for (StatusCode, String) {
    fn into_html(self) -> Response {
        (self.0, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], self.1).into_response()
    }
}

async fn overview_json(State(page): State<Arc<Page>>, RawQuery(query): RawQuery) -> Response {
    let _turn = page.turn.acquire().await;
    let question = Question::parse(query.as_deref().unwrap_or_default());
    match page.overview(question, Timestamp::now()) {
        Some(overview) => json(&overview),
        None => (StatusCode::SERVICE_UNAVAILABLE, TOO_EARLY).into_response(),
    }
}

async fn group_json(State(page): State<Arc<Page>>, Path((namespace, name)): Path<(String, String)>) -> Response {
    let _turn = page.turn.acquire().await;
    if !page.source.synced.is_complete() {
        return (StatusCode::SERVICE_UNAVAILABLE, TOO_EARLY).into_response();
    }
    match page.group(&GroupKey { namespace, name }, Depth::Whole, Timestamp::now()) {
        Some(group) => json(&group),
        None => (StatusCode::NOT_FOUND, "no such group").into_response(),
    }
}
