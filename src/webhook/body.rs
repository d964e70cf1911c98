//! Request bodies, within a bounded memory.
//!
//! The API server sends an object of up to 3 MiB twice, as it was and as it is to be. Almost all reviews are a hundredth
//! of that. So there are two purses: one for the ordinary bodies, which pay for what has come of them, and one for the
//! large ones, which pay for all that is declared and so come one after the other.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, Request, StatusCode, header};
use http_body_util::BodyExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::purse::{Account, NoRoom, Purse};

/// What the bodies of all requests may take together, and each of them.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Bytes of one body; more is answered with 413. The API server's own limit for an object is 3 MiB
    /// (k8s.io/apiserver: MaxRequestBodyBytes), and a review holds two, with little around them.
    pub body: usize,
    /// Bytes up to which a body is an ordinary one.
    pub ordinary: usize,
    /// Bytes of all ordinary bodies at a time.
    pub ordinary_total: usize,
    /// Bytes of all large bodies at a time.
    pub large_total: usize,
    /// The longest wait for room in a purse, then the answer is 503; the API server asks again after a second.
    pub room: Duration,
    /// The time that each body has to arrive before it may be given up for others, with the same answer.
    pub protected: Duration,
    /// The longest time for a body to arrive, then the answer is 408.
    pub arrival: Duration,
}

impl Default for BodyLimits {
    fn default() -> BodyLimits {
        BodyLimits {
            body: 7 << 20,
            ordinary: 256 << 10,
            ordinary_total: 8 << 20,
            large_total: 8 << 20,
            room: Duration::from_secs(3),
            protected: Duration::from_secs(1),
            arrival: Duration::from_secs(10),
        }
    }
}

/// Why a body is not read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It isn't JSON.
    #[error("the content type must be application/json, not '{found}'")]
    ContentType {
        /// What the header says.
        found: String,
    },
    /// It is too large.
    #[error("the body must not have more than {limit} bytes")]
    TooLarge {
        /// The bytes that it may have.
        limit: usize,
    },
    /// Other bodies take all the memory.
    #[error("too many bodies at once; try again")]
    NoRoom,
    /// It didn't come in time.
    #[error("the body did not arrive within {seconds} s")]
    TooSlow {
        /// The time that it had.
        seconds: u64,
    },
    /// The connection broke, or the body's framing is wrong.
    #[error("the body can't be read: {0}")]
    Broken(String),
}

impl Refused {
    /// The answer's status.
    pub fn status(&self) -> StatusCode {
        match self {
            Refused::ContentType { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Refused::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Refused::NoRoom => StatusCode::SERVICE_UNAVAILABLE,
            Refused::TooSlow { .. } => StatusCode::REQUEST_TIMEOUT,
            Refused::Broken(_) => StatusCode::BAD_REQUEST,
        }
    }
}

/// Which purse paid for a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Many of them fit at a time.
    Ordinary,
    /// Few fit.
    Large,
}

/// A body in memory; its room is free again when it is dropped.
#[derive(Debug)]
pub struct Held {
    /// The whole body.
    pub bytes: Bytes,
    /// Whether it is an ordinary one.
    pub size: Size,
    _room: Option<OwnedSemaphorePermit>,
}

/// The memory for bodies.
#[derive(Debug)]
pub struct Bodies {
    limits: BodyLimits,
    ordinary: Arc<Purse>,
    large: Arc<Purse>,
}

impl Bodies {
    /// With all room free.
    pub fn new(limits: BodyLimits) -> Bodies {
        Bodies {
            limits,
            ordinary: Purse::new(limits.ordinary_total, limits.room, limits.protected),
            large: Purse::new(limits.large_total, limits.room, limits.protected),
        }
    }

    /// Reads a request's body.
    ///
    /// # Errors
    /// Why it is refused. The rest of a refused body is still taken off the line, after the answer and for as long as a
    /// body may take, so that a client that is busy sending gets to hear the answer instead of a broken connection.
    pub async fn read(&self, request: Request<Body>) -> Result<Held, Refused> {
        let (head, mut body) = request.into_parts();
        let limits = self.limits;
        let within = timeout(limits.arrival, async {
            let read = self.read_in_time(&head.headers, &mut body).await;
            (read, body)
        });
        match within.await {
            Ok((Ok(held), _)) => Ok(held),
            Ok((Err(refused), rest)) => {
                tokio::spawn(timeout(limits.arrival, discard(rest, 4 * limits.body)));
                Err(refused)
            }
            Err(_) => Err(Refused::TooSlow { seconds: limits.arrival.as_secs() }),
        }
    }

    async fn read_in_time(&self, headers: &HeaderMap, body: &mut Body) -> Result<Held, Refused> {
        json(headers)?;
        let limit = self.limits.body;
        // Without a declared length, as large as can be.
        let declared = body.size_hint().exact().unwrap_or(limit as u64);
        let expected = usize::try_from(declared).ok().filter(|declared| *declared <= limit);
        let expected = expected.ok_or(Refused::TooLarge { limit })?;
        let (size, purse) = match expected <= self.limits.ordinary {
            true => (Size::Ordinary, &self.ordinary),
            false => (Size::Large, &self.large),
        };
        let mut account = purse.open();
        if size == Size::Large {
            account.pay(expected).await?;
        }
        let bytes = read(body, size, expected, limit, &mut account).await?;
        Ok(Held { bytes, size, _room: account.arrived() })
    }
}

impl From<NoRoom> for Refused {
    fn from(NoRoom: NoRoom) -> Refused {
        Refused::NoRoom
    }
}

fn json(headers: &HeaderMap) -> Result<(), Refused> {
    let found = headers.get(header::CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let found = found.unwrap_or_default();
    match found.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
        true => Ok(()),
        false => Err(Refused::ContentType { found: found.chars().take(100).collect() }),
    }
}

/// Reads all of a body. One that came in a single piece, as most do, is not copied.
async fn read(
    body: &mut Body,
    size: Size,
    expected: usize,
    limit: usize,
    account: &mut Account,
) -> Result<Bytes, Refused> {
    let mut first = Bytes::new();
    let mut pieces = Vec::new();
    loop {
        let frame = tokio::select! {
            biased;
            frame = body.frame() => frame,
            no_room = account.given_up() => return Err(no_room.into()),
        };
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| Refused::Broken(crate::supervise::with_causes(&error)))?;
        let Ok(piece) = frame.into_data() else { continue };
        if first.len() + pieces.len() + piece.len() > limit {
            return Err(Refused::TooLarge { limit });
        }
        if size == Size::Ordinary {
            account.pay(piece.len()).await?;
        }
        if first.is_empty() && pieces.is_empty() {
            first = piece;
            continue;
        }
        if pieces.is_empty() {
            pieces.reserve_exact(expected);
            pieces.extend_from_slice(&std::mem::take(&mut first));
        }
        pieces.extend_from_slice(&piece);
    }
    Ok(if pieces.is_empty() { first } else { pieces.into() })
}

/// Takes a body off the line, up to so many bytes.
async fn discard(mut body: Body, limit: usize) {
    let mut seen = 0;
    while let Some(Ok(frame)) = body.frame().await {
        seen += frame.data_ref().map_or(0, Bytes::len);
        if seen > limit {
            return;
        }
    }
}
