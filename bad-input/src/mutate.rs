//! Changes of an input: of bytes, of words, and, where it holds JSON, of the document.

use rand::Rng as _;
use rand::rngs::StdRng;
use serde_json::{Map, Value, json};

/// Values that readers stumble over.
const BYTES: &[u8] = b"\0\r\n\t \"\\{}[]:,%'<>&;=#-+.0123456789eEnulltruefalse\x1b\x7f\x80\xc0\xed\xff";
const TEXTS: &[&str] = &[
    "",
    " ",
    "\u{0}",
    "\r\n",
    "\u{202e}",
    "\u{feff}",
    "\u{1f600}",
    "é",
    "%00",
    "%C0%A0",
    "%",
    "NaN",
    "1e999",
    "-0",
    "1e-400",
    "<img src=x onerror=alert(1)>",
    "'; drop table t; --",
    "<!channel>",
    "${jndi:x}",
    "{{7*7}}",
    "=1+1",
    "$(id)",
    "../../etc/passwd",
    "9999-12-31T23:59:60Z",
    "0000-01-01T00:00:00Z",
    "18446744073709551616",
    "\u{1b}[2J",
];

/// One of the pool, changed up to eight times.
pub fn mutated(pool: &[Vec<u8>], words: &[&str], bytes_max: usize, rng: &mut StdRng) -> Vec<u8> {
    let mut input = pool[rng.random_range(0..pool.len())].clone();
    for _ in 0..1 << rng.random_range(0..4) {
        match rng.random_range(0..12) {
            0..4 => {
                if let Some(changed) = document(&input, rng) {
                    input = changed;
                    continue;
                }
                bytes(&mut input, rng);
            }
            4..7 => bytes(&mut input, rng),
            7 | 8 => insert(
                &mut input,
                words
                    .get(rng.random_range(0..words.len().max(1)))
                    .unwrap_or(&"")
                    .as_bytes(),
                rng,
            ),
            9 => insert(
                &mut input,
                TEXTS[rng.random_range(0..TEXTS.len())].as_bytes(),
                rng,
            ),
            10 => {
                // A part of another one.
                let other = &pool[rng.random_range(0..pool.len())];
                let part = part(other.len(), rng);
                insert(&mut input, &other[part], rng);
            }
            _ => repeat(&mut input, bytes_max, rng),
        }
    }
    input.truncate(bytes_max);
    input
}

fn part(length: usize, rng: &mut StdRng) -> std::ops::Range<usize> {
    let start = rng.random_range(0..=length);
    start..rng.random_range(start..=length)
}

fn insert(input: &mut Vec<u8>, what: &[u8], rng: &mut StdRng) {
    let start = rng.random_range(0..=input.len());
    let end = if rng.random_bool(0.5) {
        start
    } else {
        rng.random_range(start..=input.len().min(start + 16))
    };
    input.splice(start..end, what.iter().copied());
}

fn bytes(input: &mut Vec<u8>, rng: &mut StdRng) {
    if input.is_empty() {
        input.push(rng.random());
        return;
    }
    let place = rng.random_range(0..input.len());
    match rng.random_range(0..5) {
        0 => input[place] ^= 1 << rng.random_range(0..8),
        1 => input[place] = BYTES[rng.random_range(0..BYTES.len())],
        2 => input.insert(place, BYTES[rng.random_range(0..BYTES.len())]),
        3 => {
            let cut = part(input.len().min(place + 32), rng);
            input.drain(cut);
        }
        _ => input.truncate(place),
    }
}

/// A part many times over; seldom as many as fit.
fn repeat(input: &mut Vec<u8>, bytes_max: usize, rng: &mut StdRng) {
    let range = part(input.len().min(64), rng);
    if range.is_empty() {
        return;
    }
    let piece = input[range.clone()].to_vec();
    let most = if rng.random_ratio(1, 500) {
        bytes_max / piece.len() + 2
    } else {
        40
    };
    let times = rng.random_range(1..=most);
    input.splice(range.end..range.end, piece.repeat(times));
}

/// The JSON document at the end of the input with one of its values changed.
fn document(input: &[u8], rng: &mut StdRng) -> Option<Vec<u8>> {
    let start = input.iter().position(|byte| *byte == b'{')?;
    let mut value: Value = serde_json::from_slice(&input[start..]).ok()?;
    change(&mut value, rng, 0);
    let mut changed = input[..start].to_vec();
    changed.extend(value.to_string().into_bytes());
    Some(changed)
}

fn change(value: &mut Value, rng: &mut StdRng, depth: usize) {
    let deeper = depth < 8 && rng.random_bool(0.8);
    match value {
        Value::Object(fields) if deeper && !fields.is_empty() => object(fields, rng, depth),
        Value::Array(items) if deeper && !items.is_empty() => {
            let place = rng.random_range(0..items.len());
            match rng.random_range(0..6) {
                0 => {
                    items.remove(place);
                }
                1 => {
                    let copy = items[place].clone();
                    items.push(copy);
                }
                _ => change(&mut items[place], rng, depth + 1),
            }
        }
        Value::Number(number) if rng.random_bool(0.7) => {
            let near = number.as_f64().unwrap_or_default() * rng.random_range(-2.0..2.0);
            *value = json!(near);
        }
        Value::String(text) if rng.random_bool(0.7) => {
            let place = text
                .char_indices()
                .map(|(place, _)| place)
                .nth(rng.random_range(0..=text.len()))
                .unwrap_or(0);
            text.insert_str(place, TEXTS[rng.random_range(0..TEXTS.len())]);
        }
        _ => *value = any(rng),
    }
}

fn object(fields: &mut Map<String, Value>, rng: &mut StdRng, depth: usize) {
    let name = fields
        .keys()
        .nth(rng.random_range(0..fields.len()))
        .cloned()
        .unwrap_or_default();
    match rng.random_range(0..8) {
        0 => {
            fields.remove(&name);
        }
        1 => {
            fields.insert(TEXTS[rng.random_range(0..TEXTS.len())].to_owned(), any(rng));
        }
        _ => {
            if let Some(inner) = fields.get_mut(&name) {
                change(inner, rng, depth + 1);
            }
        }
    }
}

fn any(rng: &mut StdRng) -> Value {
    match rng.random_range(0..12) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(rng.random::<i64>()),
        3 => json!(rng.random::<u64>()),
        4 => json!(f64::from_bits(rng.random())),
        5 => json!(0),
        6 => json!(rng.random_range(-1.5..1.5)),
        7 => json!([]),
        8 => json!({}),
        9 => json!(["x", 1, null]),
        _ => json!(TEXTS[rng.random_range(0..TEXTS.len())]),
    }
}
