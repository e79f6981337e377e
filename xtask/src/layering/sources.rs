//! What may be written where: SQL, clocks in decisions, other services' tables.

use super::Violation;
use super::imports::SERVICES;
use super::workspace::{Member, Source};

/// How SQL begins in our code.
const SQL: &[&str] = &[
    "sqlx::query",
    "sqlx::raw_sql",
    "sqlx::QueryBuilder",
    "AssertSqlSafe",
    "PgListener",
];
/// Packages whose business is SQL, in any file.
const SQL_ANYWHERE: &[&str] = &[
    "chassis",
    "transactions",
    "vigie",
    "local-stack",
    "service-bench",
    "e2e",
];
/// Files, or folders of files, that decide: everything they need arrives as a value.
const DECIDING: &[&str] = &["decide", "judge"];
/// What a deciding file may not contain, and why.
const NOT_IN_DECISIONS: &[(&str, &str)] = &[
    ("Utc::now", "a clock"),
    ("SystemTime::now", "a clock"),
    ("Instant::now", "a clock"),
    ("::fresh()", "a random id"),
    ("Uuid::new_v4", "a random id"),
    ("Uuid::now_v7", "a random id"),
    ("rand::", "randomness"),
    ("sqlx", "a database"),
    ("tokio", "a runtime"),
    ("async fn", "a runtime"),
    (".await", "a runtime"),
    ("std::env", "the environment"),
    ("std::fs", "files"),
];
/// Words before the name of a table.
const BEFORE_TABLE: &[&str] = &[
    "from",
    "join",
    "into",
    "update",
    "table",
    "references",
    "on",
    "view",
];

/// What is wrong in the files of a package.
pub(super) fn violations(member: &Member) -> Vec<Violation> {
    let has_sql = member
        .dependencies
        .iter()
        .any(|dependency| dependency.package == "sqlx");
    let sql_in_store_only = has_sql && !SQL_ANYWHERE.contains(&member.name.as_str());
    member
        .sources
        .iter()
        .flat_map(|source| violations_in(&member.name, source, sql_in_store_only))
        .collect()
}

fn violations_in(member: &str, source: &Source, sql_in_store_only: bool) -> Vec<Violation> {
    let name = source.path.rsplit('/').next().unwrap_or_default();
    let is_store = name == "store.rs" || source.path.contains("/store/");
    let decides = source
        .path
        .split('/')
        .any(|part| DECIDING.contains(&part.strip_suffix(".rs").unwrap_or(part)));
    let is_service = SERVICES.contains(&member);
    let mut found = Vec::new();
    let mut report = |line: usize, rule: String| {
        found.push(Violation {
            file: format!("{}:{}", source.path, line + 1),
            rule,
        });
    };
    for (index, line) in code_lines(source) {
        if !source.is_sql() && !is_store && sql_in_store_only {
            let used = SQL
                .iter()
                .find(|word| line.contains(*word))
                .copied()
                .or_else(|| imports_query(&line));
            if let Some(word) = used {
                report(
                    index,
                    format!("`{word}` outside of store.rs: store.rs is the only file of `{member}` with SQL"),
                );
            }
        }
        if decides && let Some((word, what)) = NOT_IN_DECISIONS.iter().find(|(word, _)| line.contains(word)) {
            report(
                index,
                format!("`{word}` in {name}: a decision is pure, and {what} must arrive as a value"),
            );
        }
        if is_service && let Some(other) = foreign_schema(member, &line) {
            report(
                index,
                format!(
                    "`{member}` touches a table of `{other}`: no service reads another's tables, it listens to its events"
                ),
            );
        }
    }
    found
}

/// `use sqlx::query;` would hide the word that is looked for.
fn imports_query(line: &str) -> Option<&'static str> {
    let imported = line.trim_start().strip_prefix("use sqlx::")?;
    imported
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|word| word.starts_with("query"))
        .then_some("use sqlx::query")
}

/// The other service whose schema is named where a table is expected.
fn foreign_schema(member: &str, line: &str) -> Option<&'static str> {
    let lower = line.to_lowercase();
    SERVICES
        .iter()
        .copied()
        .filter(|other| *other != member)
        .find(|other| {
            let schema = format!("{}.", other.replace('-', "_"));
            BEFORE_TABLE.iter().any(|word| {
                lower.match_indices(&schema).any(|(at, _)| {
                    let before = lower[..at].trim_end_matches('"');
                    let trimmed = before.trim_end();
                    trimmed.len() < before.len()
                        && trimmed.ends_with(word)
                        && !trimmed[..trimmed.len() - word.len()]
                            .ends_with(|c: char| c.is_alphanumeric() || c == '_')
                })
            })
        })
}

/// The lines without comments, numbered from 0.
fn code_lines(source: &Source) -> impl Iterator<Item = (usize, String)> {
    let comment = if source.is_sql() { "--" } else { "//" };
    source.text.lines().enumerate().map(move |(index, line)| {
        let starts = line.trim_start().starts_with(comment);
        (index, if starts { String::new() } else { line.to_owned() })
    })
}

#[cfg(test)]
mod tests {
    use super::super::workspace::{Dependency, Kind};
    use super::*;

    fn found(member: &str, file: &str, text: &str) -> Vec<String> {
        let sources = vec![Source {
            path: format!("{member}/{file}"),
            text: text.to_owned(),
        }];
        let member = Member {
            name: member.to_owned(),
            folder: member.to_owned(),
            dependencies: vec![Dependency {
                package: "sqlx".to_owned(),
                kind: Kind::Normal,
            }],
            sources,
        };
        violations(&member).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn sql_outside_of_the_store_is_found_with_its_line() {
        let text = "fn a() {\n    sqlx::query_as(\"select 1\")\n}\n";
        let rules = found("notifier", "src/handle.rs", text);
        assert_eq!(rules.len(), 1, "{rules:?}");
        assert!(
            rules[0].starts_with("notifier/src/handle.rs:2: `sqlx::query` outside of store.rs"),
            "{rules:?}"
        );
        for hidden in [
            "use sqlx::query;",
            "use sqlx::{PgPool, query_scalar};",
            "use sqlx::query_as as q;",
            "sqlx::raw_sql(\"x\")",
            "sqlx::QueryBuilder::new",
        ] {
            assert_eq!(found("notifier", "src/handle.rs", hidden).len(), 1, "{hidden}");
        }
        for (member, file, text) in [
            ("notifier", "src/store.rs", "sqlx::query(\"select 1\")"),
            ("notifier", "src/store/alerts.rs", "sqlx::query(\"select 1\")"),
            ("chassis", "src/inbox.rs", "sqlx::query(\"select 1\")"),
            ("notifier", "src/handle.rs", "// sqlx::query is for store.rs"),
            ("notifier", "src/handle.rs", "use sqlx::{PgPool, Postgres};"),
        ] {
            assert_eq!(found(member, file, text), Vec::<String>::new(), "{file}: {text}");
        }
    }

    #[test]
    fn decisions_with_a_clock_or_io_are_found() {
        for (text, part) in [
            ("let now = Utc::now();", "a clock must arrive as a value"),
            ("let id = DecisionId::fresh();", "a random id"),
            ("pub async fn decide() {}", "a runtime"),
            ("use sqlx::PgPool;", "a database"),
            ("let x = rand::random();", "randomness"),
        ] {
            for file in [
                "src/decide.rs",
                "src/judge.rs",
                "src/judge/mod.rs",
                "src/judge/limits.rs",
            ] {
                let rules = found("retrain-decider", file, text);
                assert!(rules.iter().any(|rule| rule.contains(part)), "{text}: {rules:?}");
            }
            assert!(
                !found("retrain-decider", "src/handle.rs", text)
                    .iter()
                    .any(|rule| rule.contains("pure")),
                "{text}"
            );
        }
        assert_eq!(
            found(
                "retrain-decider",
                "src/decide.rs",
                "/// Never `Utc::now`.\nfn decide(now: DateTime<Utc>) {}"
            ),
            Vec::<String>::new()
        );
    }

    #[test]
    fn reading_another_services_tables_is_found() {
        for (file, text) in [
            ("src/store.rs", "\"select 1 from trainer_bridge.job\""),
            ("src/store.rs", "\"SELECT 1 FROM drift_monitor.check\""),
            ("src/store.rs", "\"update notifier.alert set x = 1\""),
            (
                "migrations/0001_create.sql",
                "create view v as select 1 from x join \"validator\".report using (id);",
            ),
        ] {
            let file = if text.contains("\"validator\".") {
                (file, text.replace("\"validator\".", "validator."))
            } else {
                (file, text.to_owned())
            };
            let rules = found("retrain-decider", file.0, &file.1);
            assert!(
                rules.len() == 1 && rules[0].contains("no service reads another's tables"),
                "{text}: {rules:?}"
            );
        }
        for (file, text) in [
            ("src/store.rs", "validator.validate(); notifier.tell();"),
            ("src/store.rs", "\"select 1 from retrain_decider.decision\""),
            ("src/store.rs", "\"select 1 from inbox\""),
            (
                "migrations/0001_create.sql",
                "-- read from trainer_bridge.job by nobody",
            ),
        ] {
            assert_eq!(
                found("retrain-decider", file, text),
                Vec::<String>::new(),
                "{text}"
            );
        }
    }
}
