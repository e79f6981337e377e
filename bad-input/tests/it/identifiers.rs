//! Names from settings that get into SQL: each is exactly one identifier, or refused.

use bad_input::{Target, Verdict};
use chassis::{Reader, Settings, Sources};
use transactions::{ModelDefinition, SourceDefinition, quoted};

const WORDS: &[&str] = &[
    "\"",
    "\"\"",
    "'",
    ";",
    "--",
    "/*",
    "*/",
    "\\",
    "$$",
    ".",
    "\u{0}",
    "U&\"",
    "select",
    "drop table t",
    "public.",
    "pg_catalog.",
    "\u{202e}",
    "\u{ff02}",
    "\u{2019}",
    "A",
    "é",
    " ",
    "\t",
    "%",
    "?",
    "$1",
    "::text",
    "(",
    ")",
];

/// The identifiers that a piece of SQL consists of, or none when it is anything else; as PostgreSQL's lexer reads them.
fn identifiers(sql: &str) -> Option<Vec<String>> {
    let mut found = Vec::new();
    let mut rest = sql.chars().peekable();
    loop {
        if rest.next()? != '"' {
            return None;
        }
        let mut name = String::new();
        loop {
            match rest.next()? {
                '"' if rest.peek() == Some(&'"') => {
                    rest.next();
                    name.push('"');
                }
                '"' => break,
                '\0' => return None,
                other => name.push(other),
            }
        }
        if name.is_empty() {
            return None;
        }
        found.push(name);
        match rest.next() {
            None => return Some(found),
            Some('.') => {}
            Some(_) => return None,
        }
    }
}

fn model_with(table: &str, column: &str) -> Result<ModelDefinition, String> {
    let literal = |text: &str| toml::Value::from(text.to_owned()).to_string();
    let text = format!(
        "[models.m]\nsource = \"postgres\"\ntable = {}\ntime = \"t\"\nlabel = \"y\"\nlabel_delay = \"1d\"\nfeatures = [{}]\n",
        literal(table),
        literal(column)
    );
    let sources = Sources {
        overrides: vec![("test.toml".to_owned(), text)],
        ..Sources::default()
    };
    let settings =
        Settings::load(&[transactions::DEFAULTS], &[], &sources).map_err(|problems| problems.to_string())?;
    let reader = Reader::new(&settings);
    let model = ModelDefinition::read_all(&reader).pop();
    reader.finish().map_err(|problems| problems.to_string())?;
    model.ok_or_else(|| "no model".to_owned())
}

/// The first line is a table, the rest a column.
fn read(input: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(input) else {
        return Err("not_text".to_owned());
    };
    let (table, column) = text.split_once('\n').unwrap_or((text, "a"));
    // A table must be plain, and a column one identifier in quotes.
    match model_with(table, "a") {
        Ok(model) => {
            let SourceDefinition::Postgres { schema, table: name } = model.source else {
                panic!("a table was asked for");
            };
            for part in [&schema, &name] {
                let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
                assert!(
                    part.chars().all(plain) && !part.starts_with(|c: char| c.is_ascii_digit()),
                    "{part:?}"
                );
                assert!((1..=63).contains(&part.len()), "{part:?}");
            }
            let sql = format!("{}.{}", quoted(&schema), quoted(&name));
            assert_eq!(identifiers(&sql), Some(vec![schema, name]));
        }
        Err(problems) => {
            assert!(problems.contains("models.m.table"), "{table:?}: {problems}");
            return Err("table".to_owned());
        }
    }
    match model_with("public.t", column) {
        Ok(model) => {
            let name = &model.features[0].column;
            // Settings are read without the blanks around them.
            assert_eq!(name, column.trim());
            assert_eq!(identifiers(&quoted(name)), Some(vec![name.clone()]));
            Ok(())
        }
        Err(problems) => {
            assert!(problems.contains("models.m.features"), "{column:?}: {problems}");
            Err("column".to_owned())
        }
    }
}

#[test]
fn any_name_in_sql_is_exactly_one_identifier_or_refused() {
    // Every awkward pair: more than five hundred names.
    let mut samples = Vec::new();
    for first in WORDS {
        for second in WORDS {
            samples.push(format!("public.payment\n{first}x{second}").into_bytes());
            samples.push(format!("public.{first}x{second}\na").into_bytes());
        }
    }
    assert!(samples.len() >= 500);
    for sample in &samples {
        let _class = read(sample);
    }
    let target = Target {
        name: "identifiers",
        words: WORDS,
        samples,
        bytes_max: 4_096,
        slow: true,
        read: &read,
    };
    target.run();
}
