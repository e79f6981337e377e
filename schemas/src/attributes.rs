//! The CloudEvents 1.0 context of an event, in the NATS binding's binary mode.
//!
//! Attributes travel as `ce-…` headers. Values are percent-encoded outside U+0021 to U+007E and for
//! space, `"` and `%`, and decoded exactly once, as the binding asks; a header can therefore never hold a
//! line break. Header names are read without regard to case.

use chrono::{DateTime, SecondsFormat, Utc};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use crate::{EventId, EventKind, ModelName};

/// Most characters of what a parser says.
const TOLD_MAX: usize = 400;

/// The only CloudEvents version that is produced and accepted.
pub const SPEC_VERSION: &str = "1.0";
/// Media type of the body in binary mode.
pub const CONTENT_TYPE_JSON: &str = "application/json";
/// Header of the instant at which an event was recorded, by the database's clock: CloudEvents' recordedtime extension. It is the
/// relay's, which knows it, and no reader's: whoever orders events of several hosts looks at it instead of `ce-time`.
pub const RECORDED_TIME: &str = "ce-recordedtime";
/// First part of every `ce-source`; followed by the service's name.
pub const SOURCE_PREFIX: &str = "/vigie/";

const ESCAPED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// W3C trace context of the span in which the event was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TraceContext {
    /// `traceparent`, e.g. `00-<32 hex>-<16 hex>-01`.
    pub parent: Option<String>,
    /// `tracestate`, vendor entries.
    pub state: Option<String>,
}

impl TraceContext {
    /// The 32 hexadecimal digits of the trace id, when there is one.
    pub fn trace_id(&self) -> Option<&str> {
        let id = self.parent.as_deref()?.split('-').nth(1)?;
        (id.len() == 32).then_some(id)
    }
}

/// Who said it, when, about what, and because of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// `ce-id`, globally unique.
    pub id: EventId,
    /// `ce-source`, e.g. `/vigie/drift-monitor`: the service, not the instance.
    pub source: String,
    /// `ce-type` without prefix and major, e.g. `drift.detected`; the major is in [`EventKind`].
    pub kind: EventKind,
    /// `ce-time`: when it happened (the service's wall clock; `as_of` in the body is the instant judged).
    pub time: DateTime<Utc>,
    /// `ce-subject`: the model it is about.
    pub model: ModelName,
    /// `ce-correlationid`: id of the event that began the loop.
    pub correlation_id: EventId,
    /// `ce-causationid`: id of the direct cause; `None` for what began spontaneously.
    pub causation_id: Option<EventId>,
    /// Trace of the span that recorded the event.
    pub trace: TraceContext,
}

/// A required attribute is missing or malformed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The attribute is not there.
    #[error("attribute `{0}` is missing")]
    Missing(&'static str),
    /// The attribute is there and cannot be read.
    #[error("attribute `{name}` is not {expected}: {value:?}")]
    Malformed {
        /// Attribute without the `ce-` prefix.
        name: &'static str,
        /// What would have been accepted.
        expected: &'static str,
        /// The first 80 characters of what was found.
        value: String,
    },
    /// `ce-specversion` is not 1.0.
    #[error("CloudEvents version {0:?} is not supported, only 1.0 is")]
    SpecVersion(String),
    /// `ce-type` names an event or a major version that this release does not know.
    #[error("event type {0:?} is not known to this release")]
    UnknownType(String),
}

impl Attributes {
    /// The headers of binary mode, in a fixed order.
    pub fn to_headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = vec![
            ("ce-specversion", SPEC_VERSION.to_owned()),
            ("ce-id", self.id.to_string()),
            ("ce-source", encode(&self.source)),
            ("ce-type", self.kind.ce_type().to_owned()),
            ("ce-time", self.time.to_rfc3339_opts(SecondsFormat::Millis, true)),
            ("ce-subject", encode(self.model.as_str())),
            ("ce-datacontenttype", CONTENT_TYPE_JSON.to_owned()),
            ("ce-dataschema", self.kind.schema_uri()),
            ("ce-correlationid", self.correlation_id.to_string()),
            ("content-type", CONTENT_TYPE_JSON.to_owned()),
        ];
        if let Some(cause) = self.causation_id {
            headers.push(("ce-causationid", cause.to_string()));
        }
        // Twice on purpose: brokers may rewrite `traceparent`; the `ce-` form keeps the origin.
        if let Some(parent) = &self.trace.parent {
            headers.push(("ce-traceparent", encode(parent)));
            headers.push(("traceparent", encode(parent)));
        }
        if let Some(state) = &self.trace.state {
            headers.push(("ce-tracestate", encode(state)));
            // W3C knows no encoding here, and allows to drop a state that does not fit.
            if state.bytes().all(|byte| byte.is_ascii_graphic()) {
                headers.push(("tracestate", state.clone()));
            }
        }
        headers
    }

    /// Reads the attributes; `lookup` finds a decoded value by attribute name without the `ce-` prefix.
    pub(crate) fn read(
        lookup: &dyn Fn(&str) -> Result<Option<String>, HeaderError>,
    ) -> Result<Self, HeaderError> {
        let need = |name: &'static str| lookup(name)?.ok_or(HeaderError::Missing(name));
        let spec_version = need("specversion")?;
        if spec_version != SPEC_VERSION {
            return Err(HeaderError::SpecVersion(clip(&spec_version)));
        }
        let ce_type = need("type")?;
        let kind =
            EventKind::from_ce_type(&ce_type).ok_or_else(|| HeaderError::UnknownType(clip(&ce_type)))?;
        let id: EventId = parse("id", "a UUID", &need("id")?)?;
        let correlation_id = match lookup("correlationid")? {
            Some(text) => parse("correlationid", "a UUID", &text)?,
            None => id,
        };
        let causation_id = match lookup("causationid")? {
            Some(text) => Some(parse("causationid", "a UUID", &text)?),
            None => None,
        };
        let time_text = need("time")?;
        let time = DateTime::parse_from_rfc3339(&time_text)
            .map_err(|_| malformed("time", "an RFC 3339 instant", &time_text))?
            .with_timezone(&Utc);
        let source = need("source")?;
        if source.is_empty() {
            return Err(malformed("source", "a non-empty URI reference", &source));
        }
        Ok(Self {
            id,
            source,
            kind,
            time,
            model: parse("subject", "a model name", &need("subject")?)?,
            correlation_id,
            causation_id,
            trace: TraceContext {
                parent: lookup("traceparent")?,
                state: lookup("tracestate")?,
            },
        })
    }
}

fn parse<T: std::str::FromStr>(
    name: &'static str,
    expected: &'static str,
    text: &str,
) -> Result<T, HeaderError> {
    text.parse().map_err(|_| malformed(name, expected, text))
}

fn malformed(name: &'static str, expected: &'static str, value: &str) -> HeaderError {
    HeaderError::Malformed {
        name,
        expected,
        value: clip(value),
    }
}

pub(crate) fn clip(text: &str) -> String {
    text.chars().take(80).collect()
}

/// What a parser says, for a line of a log: it may quote a whole hostile body, line breaks included.
pub fn told(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let mut told: String = text
        .chars()
        .take(TOLD_MAX)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if told.len() < text.len() && text.chars().nth(TOLD_MAX).is_some() {
        told.push('…');
        // Where it is stands at the end.
        let place = text.rfind(" at line ").map(|at| &text[at..]).unwrap_or_default();
        told.extend(
            place
                .chars()
                .take(60)
                .map(|c| if c.is_control() { '\u{fffd}' } else { c }),
        );
    }
    told
}

fn encode(value: &str) -> String {
    utf8_percent_encode(value, ESCAPED).to_string()
}

/// Decodes a header value exactly once.
pub(crate) fn decode_value(name: &str, value: &str) -> Result<String, HeaderError> {
    let name = KNOWN
        .iter()
        .find(|known| **known == name)
        .copied()
        .unwrap_or("header");
    percent_decode_str(value)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| malformed(name, "percent-encoded UTF-8", value))
}

const KNOWN: [&str; 10] = [
    "specversion",
    "id",
    "source",
    "type",
    "time",
    "subject",
    "correlationid",
    "causationid",
    "traceparent",
    "tracestate",
];
