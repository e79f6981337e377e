//! Bytes from the broker become a typed event, or a refusal that says why.

use serde_json::Value;

use crate::attributes::{Attributes, HeaderError, clip, decode_value, told};
use crate::event::Event;
use crate::unique::check_unique;

/// Largest accepted body, in bytes (256 KiB); larger things travel as a reference and a digest.
pub const DATA_BYTES_MAX: usize = 262_144;
/// Deepest accepted nesting of a JSON body.
pub const DEPTH_MAX: usize = 32;

/// An event with its context, as it came from the broker.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    /// Who, when, why.
    pub attributes: Attributes,
    /// What.
    pub event: Event,
}

/// Why a message is no event of ours. No retry can help: the message is parked under its class.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a CloudEvent that can be read at all.
    #[error("message cannot be decoded: {0}")]
    Undecodable(String),
    /// A known type whose body breaks its schema.
    #[error("body breaks the schema of `{ce_type}`: {reason}")]
    SchemaInvalid {
        /// The type the message claims.
        ce_type: &'static str,
        /// What is wrong, with line and column where known.
        reason: String,
    },
    /// A type or a major version that this release does not know.
    #[error("event type {0:?} is not known to this release")]
    UnsupportedMajor(String),
    /// More than [`DATA_BYTES_MAX`] bytes.
    #[error("body has {bytes} bytes, more than the {DATA_BYTES_MAX} allowed")]
    TooLarge {
        /// Size found.
        bytes: usize,
    },
}

impl Refusal {
    /// The dead-letter class, stable.
    pub const fn class(&self) -> &'static str {
        match self {
            Self::Undecodable(_) => "undecodable",
            Self::SchemaInvalid { .. } => "schema_invalid",
            Self::UnsupportedMajor(_) => "unsupported_major",
            Self::TooLarge { .. } => "too_large",
        }
    }
}

impl From<HeaderError> for Refusal {
    fn from(error: HeaderError) -> Self {
        match error {
            HeaderError::UnknownType(ce_type) => Self::UnsupportedMajor(ce_type),
            other => Self::Undecodable(other.to_string()),
        }
    }
}

/// Decodes a message of the NATS binding, binary or structured mode.
///
/// `headers` are name and raw value pairs; names are compared without regard to case.
///
/// # Errors
/// [`Refusal`], with the class under which the message is parked.
pub fn decode<'a>(
    headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    body: &[u8],
) -> Result<Received, Refusal> {
    if body.len() > DATA_BYTES_MAX {
        return Err(Refusal::TooLarge { bytes: body.len() });
    }
    let headers: Vec<(String, &str)> = headers
        .into_iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .collect();
    let raw = |name: &str| {
        headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| *value)
    };
    let content_type = raw("content-type").unwrap_or_default();
    check_depth(body)?;
    if content_type
        .to_ascii_lowercase()
        .starts_with("application/cloudevents")
    {
        return decode_structured(body);
    }
    let attributes = Attributes::read(&|name| match raw(&format!("ce-{name}")) {
        Some(value) => decode_value(name, value).map(Some),
        // The hop's trace stands in when a producer did not keep the origin's; W3C does not encode it.
        None if matches!(name, "traceparent" | "tracestate") => Ok(raw(name).map(str::to_owned)),
        None => Ok(None),
    })?;
    let event = Event::from_json(attributes.kind, body)?;
    Ok(Received { attributes, event })
}

fn decode_structured(body: &[u8]) -> Result<Received, Refusal> {
    // Before a map is built: there the last of two fields would win without a word.
    check_unique(body).map_err(|error| Refusal::Undecodable(told(&error)))?;
    let document: Value = serde_json::from_slice(body).map_err(|error| Refusal::Undecodable(told(&error)))?;
    let Value::Object(fields) = &document else {
        return Err(Refusal::Undecodable(
            "structured event is not a JSON object".to_owned(),
        ));
    };
    let attributes = Attributes::read(&|name| match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(HeaderError::Malformed {
            name: "structured attribute",
            expected: "a string",
            value: clip(&other.to_string()),
        }),
    })?;
    let data = fields
        .get("data")
        .ok_or_else(|| Refusal::Undecodable("attribute `data` is missing".to_owned()))?;
    let event = Event::from_json(attributes.kind, data.to_string().as_bytes())?;
    Ok(Received { attributes, event })
}

/// Refuses bodies nested deeper than [`DEPTH_MAX`] before a recursive parser sees them.
fn check_depth(body: &[u8]) -> Result<(), Refusal> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return Err(Refusal::Undecodable(format!(
                        "body is nested deeper than {DEPTH_MAX} levels"
                    )));
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}
