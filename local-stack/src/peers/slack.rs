//! A Slack incoming webhook: takes what Slack takes, answers as Slack answers (plain text), remembers everything.
//!
//! Limits and answers: `slack_sdk` 3.47 and Slack's documentation of incoming webhooks and Block Kit.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;

use super::http::{HttpServer, Wire};

/// The only webhook this workspace has.
const PATH: &str = "/services/T00000000/B00000000/vigie0test0secret0000000";

const BLOCKS_MAX: usize = 50;
const SECTION_TEXT_MAX: usize = 3_000;
const SECTION_FIELDS_MAX: usize = 10;
const FIELD_TEXT_MAX: usize = 2_000;
const HEADER_TEXT_MAX: usize = 150;
/// Not documented; messages beyond it fail.
const TEXT_TOTAL_MAX: usize = 13_200;

/// How the webhook treats one post.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// As Slack would: 200 `ok` if the message is one it shows, else 400 with the reason.
    Checked,
    /// 429 with `Retry-After` in seconds; nothing is shown.
    TooManyRequests {
        /// Seconds.
        retry_after: u64,
    },
    /// 404 `no_service`: the webhook was revoked.
    NoService,
    /// 400 `invalid_payload`, whatever was sent.
    InvalidPayload,
    /// 500; nothing is shown.
    ServerError,
    /// The message is shown, and the connection closed without an answer.
    AnswerLost,
    /// As [`Answer::Checked`], after this long.
    Slow(Duration),
}

/// One request that arrived, in order of arrival.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Post {
    /// The body, if it is JSON.
    pub message: Option<Value>,
    /// HTTP status of the answer, also of a lost one.
    pub status: u16,
    /// Body of the answer, also of a lost one.
    pub answer: String,
    /// Whether people in the channel see it.
    pub shown: bool,
}

/// A running webhook. Dropping it ends it.
#[derive(Debug)]
pub struct Slack {
    server: HttpServer,
    ledger: Arc<Ledger>,
}

#[derive(Debug)]
struct Ledger(Mutex<Book>);

#[derive(Debug)]
struct Book {
    script: VecDeque<Answer>,
    otherwise: Answer,
    posts: Vec<Post>,
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slack {
    /// Starts on a free loopback port, on the current tokio runtime.
    pub async fn start() -> anyhow::Result<Self> {
        let book = Book {
            script: VecDeque::new(),
            otherwise: Answer::Checked,
            posts: Vec::new(),
        };
        let ledger = Arc::new(Ledger(Mutex::new(book)));
        let server = HttpServer::start(Router::new().fallback(take).with_state(ledger.clone())).await?;
        Ok(Self { server, ledger })
    }

    /// Where to post. Any other path of this server answers 404 `no_service`.
    pub fn webhook_url(&self) -> String {
        format!("{}{PATH}", self.server.url())
    }

    /// The answers to the next posts, in order; after them comes what [`Slack::otherwise`] set.
    pub fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        self.ledger.lock().script.extend(answers);
    }

    /// The answer to every post that the script does not cover. [`Answer::Checked`] at first.
    pub fn otherwise(&self, answer: Answer) {
        self.ledger.lock().otherwise = answer;
    }

    /// Forgets answers that no post has met; says how many.
    pub fn heal(&self) -> usize {
        let mut book = self.ledger.lock();
        let left = book.script.len();
        book.script.clear();
        left
    }

    /// Every post that arrived.
    pub fn posts(&self) -> Vec<Post> {
        self.ledger.lock().posts.clone()
    }

    /// The messages that people see.
    pub fn shown(&self) -> Vec<Value> {
        let posts = self.posts().into_iter();
        posts
            .filter(|post| post.shown)
            .filter_map(|post| post.message)
            .collect()
    }
}

async fn take(
    State(ledger): State<Arc<Ledger>>,
    ConnectInfo(wire): ConnectInfo<Wire>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let answer = {
        let mut book = ledger.lock();
        book.script.pop_front().unwrap_or_else(|| book.otherwise.clone())
    };
    if let Answer::Slow(time) = answer {
        tokio::time::sleep(time).await;
    }
    let message: Option<Value> = serde_json::from_slice(&body).ok();
    let is_json = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|t| t.as_bytes().starts_with(b"application/json"));
    let checked = || match &message {
        _ if uri.path() != PATH => (StatusCode::NOT_FOUND, "no_service"),
        Some(message) if is_json => check(message).map_or_else(
            |reason| (StatusCode::BAD_REQUEST, reason),
            |()| (StatusCode::OK, "ok"),
        ),
        _ => (StatusCode::BAD_REQUEST, "invalid_payload"),
    };
    let (status, text) = match answer {
        Answer::Checked | Answer::AnswerLost | Answer::Slow(_) => checked(),
        Answer::TooManyRequests { .. } => (StatusCode::TOO_MANY_REQUESTS, "rate_limited"),
        Answer::NoService => (StatusCode::NOT_FOUND, "no_service"),
        Answer::InvalidPayload => (StatusCode::BAD_REQUEST, "invalid_payload"),
        Answer::ServerError => (StatusCode::INTERNAL_SERVER_ERROR, "rollup_error"),
    };
    let post = Post {
        message,
        status: status.as_u16(),
        answer: text.to_owned(),
        shown: status == StatusCode::OK,
    };
    ledger.lock().posts.push(post);
    match answer {
        Answer::AnswerLost => wire.cut(),
        Answer::TooManyRequests { retry_after } => {
            return (status, [(header::RETRY_AFTER, retry_after.to_string())], text).into_response();
        }
        _ => {}
    }
    (status, text).into_response()
}

/// What Slack finds wrong with a message, in its words.
fn check(message: &Value) -> Result<(), &'static str> {
    let message = message.as_object().ok_or("invalid_payload")?;
    let text = message.get("text").and_then(Value::as_str).unwrap_or_default();
    let blocks = match message.get("blocks") {
        None => &[][..],
        Some(blocks) => blocks.as_array().ok_or("invalid_blocks_format")?,
    };
    if text.is_empty() && blocks.is_empty() && !message.contains_key("attachments") {
        return Err("no_text");
    }
    let fits =
        blocks.len() <= BLOCKS_MAX && blocks.iter().all(block_fits) && total_text(blocks) <= TEXT_TOTAL_MAX;
    if fits { Ok(()) } else { Err("invalid_blocks") }
}

fn block_fits(block: &Value) -> bool {
    let text_within = |value: &Value, max: usize| {
        value["text"]
            .as_str()
            .is_some_and(|text| !text.is_empty() && text.chars().count() <= max)
    };
    let kind = |value: &Value| value["type"].as_str().map(str::to_owned);
    match block["type"].as_str() {
        Some("header") => {
            kind(&block["text"]).is_some_and(|k| k == "plain_text")
                && text_within(&block["text"], HEADER_TEXT_MAX)
        }
        Some("section") => {
            let fields = block["fields"].as_array().map_or(&[][..], Vec::as_slice);
            let text_fits = if block["text"].is_null() {
                !fields.is_empty()
            } else {
                text_within(&block["text"], SECTION_TEXT_MAX)
            };
            text_fits
                && fields.len() <= SECTION_FIELDS_MAX
                && fields.iter().all(|f| text_within(f, FIELD_TEXT_MAX))
        }
        Some("context") => block["elements"]
            .as_array()
            .is_some_and(|e| (1..=10).contains(&e.len())),
        Some("actions") => block["elements"]
            .as_array()
            .is_some_and(|e| (1..=25).contains(&e.len())),
        Some("divider" | "image" | "markdown" | "rich_text") => true,
        _ => false,
    }
}

fn total_text(blocks: &[Value]) -> usize {
    fn count(value: &Value) -> usize {
        match value {
            Value::Object(map) => map
                .iter()
                .map(|(key, value)| {
                    if key == "text" && value.is_string() {
                        value.as_str().map_or(0, |t| t.chars().count())
                    } else {
                        count(value)
                    }
                })
                .sum(),
            Value::Array(items) => items.iter().map(count).sum(),
            _ => 0,
        }
    }
    blocks.iter().map(count).sum()
}
