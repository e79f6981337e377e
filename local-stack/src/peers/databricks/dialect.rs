//! Statements of a SQL warehouse as PostgreSQL says them: names in backticks, texts with backslashes, doubles with an exponent, and the
//! one clause that PostgreSQL has under another name.

use anyhow::{Context as _, bail};

/// Functions that the warehouse has and PostgreSQL has not.
pub(super) const FUNCTIONS: &str = "\
create or replace function public.unix_micros(timestamptz) returns bigint language sql immutable parallel safe as \
$$ select (extract(epoch from $1) * 1000000)::bigint $$; \
create or replace function public.timestamp_micros(bigint) returns timestamptz language sql immutable parallel safe as \
$$ select timestamptz 'epoch' + $1 * interval '1 microsecond' $$; \
create or replace function public.micros_between(timestamp, timestamp) returns bigint language sql immutable parallel safe as \
$$ select (extract(epoch from $2 - $1) * 1000000)::bigint $$; \
create or replace function public.xxhash64(text) returns bigint language sql immutable parallel safe as \
$$ select hashtextextended($1, 42) $$; \
create or replace function public.pmod(bigint, bigint) returns bigint language sql immutable parallel safe as \
$$ select (($1 % $2) + $2) % $2 $$";

/// The catalogue that the tables of the database are in.
const CATALOGUE: &str = "\"main\".";

/// The same statement for PostgreSQL.
pub(super) fn to_postgres(statement: &str) -> anyhow::Result<String> {
    let words = words_of(statement)?;
    let plain = words
        .replace(" as double)", " as double precision)")
        .replace(" as string)", " as text)")
        .replace("timestamp_ntz E'", "timestamp E'")
        .replace("timestampdiff(MICROSECOND, ", "micros_between(")
        .replace(CATALOGUE, "");
    lateral(&plain)
}

/// Quotes and numbers.
fn words_of(statement: &str) -> anyhow::Result<String> {
    let mut out = String::with_capacity(statement.len() * 5 / 4);
    let mut rest = statement;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '`' => {
                let end = closing(rest, '`', false)?;
                out.push('"');
                out.push_str(&rest[1..end].replace("``", "`").replace('"', "\"\""));
                out.push('"');
                end + 1
            }
            '\'' => {
                let end = closing(rest, '\'', true)?;
                out.push('E');
                out.push_str(&rest[..=end]);
                end + 1
            }
            _ if first.is_ascii_alphanumeric() || first == '_' => {
                let word = word(rest);
                let is_double = first.is_ascii_digit() && word.contains('E');
                if is_double {
                    out.push('\'');
                    out.push_str(word);
                    out.push_str("'::float8");
                } else {
                    out.push_str(word);
                }
                word.len()
            }
            '"' => bail!("a double quote is a text in this dialect"),
            _ => {
                out.push(first);
                first.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    Ok(out)
}

/// A word, or a number with its point, exponent and sign.
fn word(rest: &str) -> &str {
    let mut before = ' ';
    let is_number = rest.starts_with(|first: char| first.is_ascii_digit());
    let end = rest.find(|c: char| {
        let inside = c.is_ascii_alphanumeric()
            || c == '_'
            || is_number && (c == '.' || (c == '-' || c == '+') && before == 'E');
        before = c;
        !inside
    });
    &rest[..end.unwrap_or(rest.len())]
}

/// Where the quote that `text` begins with ends.
fn closing(text: &str, quote: char, escapes: bool) -> anyhow::Result<usize> {
    let mut at = 1;
    let bytes = text.as_bytes();
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if escapes => at += 2,
            byte if byte == quote as u8 && bytes.get(at + 1) == Some(&byte) && !escapes => at += 2,
            byte if byte == quote as u8 => return Ok(at),
            _ => at += 1,
        }
    }
    bail!("a quote is not closed")
}

/// `lateral view inline(array(struct(…), …)) u as f, c` becomes `cross join lateral (values (…), …) as u(f, c)`.
fn lateral(statement: &str) -> anyhow::Result<String> {
    const BEGINNING: &str = "lateral view inline(array(";
    let Some(start) = statement.find(BEGINNING) else {
        return Ok(statement.to_owned());
    };
    let inner_from = start + BEGINNING.len();
    let inner_to = inner_from + closing_parenthesis(&statement[inner_from..])?;
    let rest = statement[inner_to..]
        .strip_prefix("))")
        .context("inline() takes one array")?;
    let end = [" where ", " group by "]
        .iter()
        .filter_map(|word| rest.find(word))
        .min()
        .unwrap_or(rest.len());
    let (named, after) = rest.split_at(end);
    let (alias, columns) = named
        .trim()
        .split_once(" as ")
        .context("the rows of inline() have no names")?;
    let rows = statement[inner_from..inner_to].replace("struct(", "(");
    Ok(format!(
        "{}cross join lateral (values {rows}) as {alias}({columns}){after}",
        &statement[..start]
    ))
}

/// Where the parenthesis that was opened before `text` is closed; those in texts do not count.
fn closing_parenthesis(text: &str) -> anyhow::Result<usize> {
    let (mut depth, mut at) = (1, 0);
    while let Some(byte) = text.as_bytes().get(at) {
        match byte {
            b'\'' => at += closing(&text[at..], '\'', true)?,
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Ok(at);
        }
        at += 1;
    }
    bail!("a parenthesis is not closed")
}

/// The warehouse's name of a type of PostgreSQL.
pub(super) fn type_text(postgres: &str) -> &'static str {
    match postgres {
        "INT2" => "SMALLINT",
        "INT4" => "INT",
        "INT8" => "BIGINT",
        "FLOAT4" => "FLOAT",
        "FLOAT8" => "DOUBLE",
        "NUMERIC" => "DECIMAL(38,10)",
        "BOOL" => "BOOLEAN",
        "TEXT" | "VARCHAR" | "CHAR" => "STRING",
        "TIMESTAMPTZ" => "TIMESTAMP",
        "TIMESTAMP" => "TIMESTAMP_NTZ",
        "DATE" => "DATE",
        _ => "BINARY",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_numbers_and_names_change_and_nothing_else() {
        let cases = [
            (
                "select `a``b\"c` from `main`.`bank`.`p`",
                "select \"a`b\"\"c\" from \"bank\".\"p\"",
            ),
            (
                r"where x = 'it\'s' and y < -1.5E-7",
                r"where x = E'it\'s' and y < -'1.5E-7'::float8",
            ),
            (
                "cast(x1 as double) / 3600000000",
                "cast(x1 as double precision) / 3600000000",
            ),
            ("case when E2 then 1E0 end", "case when E2 then '1E0'::float8 end"),
        ];
        for (asked, want) in cases {
            assert_eq!(to_postgres(asked).unwrap(), want);
        }
        assert!(to_postgres("select 'open").is_err());
        assert!(to_postgres("select \"x\"").is_err());
    }

    #[test]
    fn the_lateral_view_is_a_join_with_values() {
        let asked = "select f from r lateral view inline(array(struct(0, (x0)), struct(1, x1, ')('))) u as f, l where l is not null group by f";
        let want = "select f from r cross join lateral (values (0, (x0)), (1, x1, E')(')) as u(f, l) where l is not null group by f";
        assert_eq!(to_postgres(asked).unwrap(), want);
    }
}
