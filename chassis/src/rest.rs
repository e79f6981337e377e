//! Calls to other people's servers: one client, one way to tell what may be tried again.
//!
//! Bodies are bounded, redirects are not followed (they would carry the token elsewhere), and every answer is one
//! of three: it worked, it may work later ([`CallError::Transient`]), or asking again cannot help
//! ([`CallError::Refused`]).

use std::time::Duration;

use crate::Secret;
use reqwest::{Client, Method, Response, StatusCode, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

/// Largest JSON answer read, in bytes (8 MiB).
const JSON_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Longest pause a server may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(10);
/// Longest part of a server's message that is kept, in characters.
const MESSAGE_MAX: usize = 500;

/// How a client shows who it is.
#[derive(Debug, Clone, Default)]
pub enum Credentials {
    /// It does not.
    #[default]
    None,
    /// `Authorization: Bearer …`.
    Bearer(Secret),
    /// User name and password.
    Basic {
        /// User name.
        user: String,
        /// Password.
        password: Secret,
    },
}

/// Why a call gave nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It may work later: the connection, a limit, or the server's own trouble.
    #[error("{detail}")]
    Transient {
        /// What happened.
        detail: String,
        /// How long the server asks us to wait.
        retry_after: Option<Duration>,
    },
    /// Asking again cannot help.
    #[error("{what} was refused with HTTP {status} {code}: {message}")]
    Refused {
        /// The call, e.g. `POST /api/2.2/jobs/runs/submit`.
        what: String,
        /// HTTP status.
        status: u16,
        /// The server's `error_code`, empty when it gave none.
        code: String,
        /// The server's message, shortened.
        message: String,
    },
}

impl CallError {
    /// A transient error without a wish of the server's.
    pub fn transient(detail: impl Into<String>) -> Self {
        Self::Transient {
            detail: detail.into(),
            retry_after: None,
        }
    }

    /// Whether trying again may help.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Transient { .. })
    }

    /// How long the server asked us to wait.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Transient { retry_after, .. } => *retry_after,
            Self::Refused { .. } => None,
        }
    }

    /// Whether the server refused with this `error_code`.
    pub fn has_code(&self, wanted: &str) -> bool {
        matches!(self, Self::Refused { code, .. } if code == wanted)
    }
}

/// A server's REST interface.
#[derive(Debug, Clone)]
pub struct Endpoint {
    client: Client,
    base: Url,
    credentials: Credentials,
}

impl Endpoint {
    /// A client for the server at `base`; each call may take `timeout`.
    ///
    /// # Errors
    /// When the HTTP client cannot be built, e.g. because no TLS provider was installed.
    pub fn new(base: Url, credentials: Credentials, timeout: Duration) -> Result<Self, reqwest::Error> {
        let client = crate::outgoing::client(timeout).build()?;
        Ok(Self {
            client,
            base,
            credentials,
        })
    }

    /// Where the server is, without user and password.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// GET with query parameters, answered in JSON.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T, CallError> {
        let sending = self.send(Method::GET, path, query, Payload::None, Expected::Json);
        json_of(sending.await?).await
    }

    /// POST of a JSON body, answered in JSON.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, CallError> {
        let sending = self.send(Method::POST, path, &[], Payload::Json(body), Expected::Json);
        json_of(sending.await?).await
    }

    /// PUT of raw bytes; the answer's body is ignored.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn put_bytes(&self, path: &str, bytes: Vec<u8>) -> Result<(), CallError> {
        let sending = self.send(Method::PUT, path, &[], Payload::Bytes(bytes), Expected::Bytes);
        sending.await.map(|_| ())
    }

    /// GET of raw bytes, at most `bytes_max`.
    ///
    /// # Errors
    /// [`CallError`]; more bytes than allowed are refused.
    pub async fn get_bytes(&self, path: &str, bytes_max: usize) -> Result<Vec<u8>, CallError> {
        let sending = self.send(Method::GET, path, &[], Payload::None, Expected::Bytes);
        let response = sending.await?;
        bounded(response, bytes_max, &format!("GET {path}")).await
    }

    /// GET of an address that another server handed out, signed by itself: at most `bytes_max` bytes. Our credentials are not for there
    /// and do not travel.
    ///
    /// # Errors
    /// [`CallError`]; an address that would send the answer in plain text over a network is refused without a call.
    pub async fn download(&self, address: &Url, bytes_max: usize) -> Result<Vec<u8>, CallError> {
        // Whoever has the address has the bytes: it is not told.
        let what = "GET of a signed address";
        if crate::transport::is_exposed_http(address) || crate::outgoing::is_forbidden_url(address) {
            return Err(CallError::Refused {
                what: what.to_owned(),
                status: 0,
                code: String::new(),
                message: "it is no `https://` address of a server".to_owned(),
            });
        }
        let asked = self.client.get(address.clone()).send().await;
        let response = asked
            .map_err(|error| CallError::transient(format!("{what}: {}", reason_of(&error.without_url()))))?;
        let response = accepted(response, what.to_owned(), Expected::Bytes).await?;
        bounded(response, bytes_max, what).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        payload: Payload<'_>,
        expected: Expected,
    ) -> Result<Response, CallError> {
        let what = format!("{method} {path}");
        let mut url = self.base.clone();
        // `path` is ours or was encoded by the caller; joining keeps a base path such as /mlflow.
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        let mut request = self.client.request(method, url).query(query);
        request = match payload {
            Payload::None => request,
            Payload::Json(body) => request.json(body),
            Payload::Bytes(bytes) => request
                .header(header::CONTENT_TYPE, "application/octet-stream")
                .body(bytes),
        };
        request = match &self.credentials {
            Credentials::None => request,
            Credentials::Bearer(token) => request.bearer_auth(token.expose()),
            Credentials::Basic { user, password } => request.basic_auth(user, Some(password.expose())),
        };
        let response = request.send().await.map_err(|error| {
            // `without_url`: a URL may carry what must not be logged.
            CallError::transient(format!("{what}: {}", reason_of(&error.without_url())))
        })?;
        accepted(response, what, expected).await
    }
}

/// The response, if it says that the call worked.
async fn accepted(response: Response, what: String, expected: Expected) -> Result<Response, CallError> {
    if !response.status().is_success() {
        return Err(error_of(response, what, expected == Expected::Json).await);
    }
    // A login page would pass for the bytes of a model, or for the answer that they were taken.
    if is_page(&response) {
        return Err(CallError::transient(format!(
            "{what}: a page for people came instead of an answer"
        )));
    }
    Ok(response)
}

fn is_page(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    kind.and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("text/html"))
}

/// What a call is answered with when all is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// By the interface itself, whose errors have a code.
    Json,
    /// By whatever keeps files.
    Bytes,
}

enum Payload<'a> {
    None,
    Json(&'a Value),
    Bytes(Vec<u8>),
}

#[derive(Debug, Default, Deserialize)]
struct ErrorBody {
    #[serde(default)]
    error_code: String,
    #[serde(default)]
    message: String,
}

async fn error_of(response: Response, what: String, api: bool) -> CallError {
    let status = response.status();
    let retry_after = retry_after_of(&response);
    let bytes = bounded(response, JSON_BYTES_MAX, &what).await.unwrap_or_default();
    let body: ErrorBody = serde_json::from_slice(&bytes).unwrap_or_default();
    let limited = matches!(
        body.error_code.as_str(),
        "RESOURCE_EXHAUSTED" | "REQUEST_LIMIT_EXCEEDED" | "TEMPORARILY_UNAVAILABLE" | "ABORTED"
    );
    let message: String = crate::text::storable(&body.message)
        .chars()
        .take(MESSAGE_MAX)
        .collect();
    // Neither server redirects, and what its interface does not have it says with a code: this is a page of something in between.
    let foreign =
        body.error_code.is_empty() && (status.is_redirection() || api && status == StatusCode::NOT_FOUND);
    let transient = foreign
        || status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
        || matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
        )
        || limited;
    if transient {
        let detail = format!("{what}: HTTP {} {} {message}", status.as_u16(), body.error_code);
        CallError::Transient {
            detail: detail.trim_end().to_owned(),
            retry_after,
        }
    } else {
        CallError::Refused {
            what,
            status: status.as_u16(),
            code: body.error_code,
            message,
        }
    }
}

/// Whole seconds; anything else is as good as nothing.
fn retry_after_of(response: &Response) -> Option<Duration> {
    let text = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    let seconds: u64 = text.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// An answer that is no JSON comes from something in between, such as a proxy's page: it may work later.
async fn json_of<T: DeserializeOwned>(response: Response) -> Result<T, CallError> {
    let what = response.url().path().to_owned();
    let bytes = bounded(response, JSON_BYTES_MAX, &what).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| CallError::transient(format!("{what}: the answer cannot be read: {error}")))
}

async fn bounded(mut response: Response, bytes_max: usize, what: &str) -> Result<Vec<u8>, CallError> {
    let status = response.status().as_u16();
    let mut bytes = Vec::new();
    loop {
        let chunk = response
            .chunk()
            .await
            .map_err(|error| CallError::transient(format!("{what}: {}", reason_of(&error.without_url()))))?;
        let Some(chunk) = chunk else { return Ok(bytes) };
        if bytes.len() + chunk.len() > bytes_max {
            let message = format!("the answer has more than {bytes_max} bytes");
            return Err(CallError::Refused {
                what: what.to_owned(),
                status,
                code: String::new(),
                message,
            });
        }
        bytes.extend_from_slice(&chunk);
    }
}

/// The innermost causes, which say more than "error sending request".
fn reason_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
