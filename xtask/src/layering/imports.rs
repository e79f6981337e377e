//! Which package may depend on which: our own among each other, and the libraries that only some may know.

use super::Violation;
use super::workspace::{Dependency, Kind, Member};

/// The services; none imports another.
pub(super) const SERVICES: &[&str] = &[
    "drift-monitor",
    "retrain-decider",
    "trainer-bridge",
    "validator",
    "notifier",
];
/// Pure packages: values in, values out.
const PURE: &[&str] = &["schemas", "drift-stats", "scoring"];
/// What stands above the services and may import everything.
const TOP: &[&str] = &["vigie", "e2e"];
/// What the services' tests stand on; nothing that runs in production imports it.
const BENCH: &str = "service-bench";
/// Libraries that a pure package may not touch, not even in tests.
const IMPURE_LIBRARIES: &[&str] = &["tokio", "sqlx", "async-nats", "reqwest", "axum", "lettre"];
/// Libraries that nothing here may use: TLS is rustls with ring.
pub(super) const BANNED: &[&str] = &["openssl", "openssl-sys", "native-tls", "aws-lc-rs", "aws-lc-sys"];

/// Who else of ours a package may import outside of tests; `None` for everything.
fn may_import(member: &str) -> Option<&'static [&'static str]> {
    match member {
        name if TOP.contains(&name) => None,
        name if SERVICES.contains(&name) => {
            Some(&["chassis", "drift-stats", "schemas", "scoring", "transactions"])
        }
        "transactions" => Some(&["chassis", "schemas"]),
        BENCH => Some(&["chassis", "local-stack", "schemas"]),
        "chassis" | "scoring" | "xtask" => Some(&["schemas"]),
        // `schemas`, `drift-stats`, `local-stack`, and whatever is added before it has a rule.
        _ => Some(&[]),
    }
}

/// Who else of ours a package may import in tests only.
fn may_test_with(member: &str) -> &'static [&'static str] {
    match member {
        // Its tests switch on the feature that generates.
        "schemas" => &["schemas"],
        name if PURE.contains(&name) || name == "local-stack" || name == "xtask" => &[],
        name if SERVICES.contains(&name) => &["local-stack", BENCH],
        "bad-input" => &["chassis", "schemas", "scoring", "transactions"],
        _ => &["local-stack"],
    }
}

/// A library that only some may use outside of tests.
struct Restricted {
    /// Name of the package, or its beginning with a `*` at the end.
    library: &'static str,
    users: &'static [&'static str],
    why: &'static str,
}

const RESTRICTED: &[Restricted] = &[
    Restricted {
        library: "async-nats",
        users: &["chassis", "vigie", "e2e", BENCH],
        why: "only chassis knows NATS; services use chassis::bus, outbox and consume",
    },
    Restricted {
        library: "sqlx",
        users: &[
            "chassis",
            "transactions",
            "vigie",
            "e2e",
            "local-stack",
            BENCH,
            "drift-monitor",
            "retrain-decider",
            "trainer-bridge",
            "validator",
            "notifier",
        ],
        why: "only chassis owns pools; services query in store.rs, transactions reads the users' tables",
    },
    Restricted {
        library: "opentelemetry*",
        users: &["chassis"],
        why: "only chassis sets up telemetry; everyone else uses tracing",
    },
    Restricted {
        library: "tracing-opentelemetry",
        users: &["chassis"],
        why: "only chassis sets up telemetry; everyone else uses tracing",
    },
    Restricted {
        library: "smartcore",
        users: &["trainer-bridge"],
        why: "only trainer-bridge trains; everyone else scores with `scoring`",
    },
    Restricted {
        library: "lettre",
        users: &["notifier"],
        why: "only notifier writes to people",
    },
];

impl Restricted {
    fn covers(&self, package: &str) -> bool {
        match self.library.strip_suffix('*') {
            Some(beginning) => package.starts_with(beginning),
            None => package == self.library,
        }
    }
}

/// What is wrong with the dependencies of a package.
pub(super) fn violations(member: &Member) -> Vec<Violation> {
    let rules = member
        .dependencies
        .iter()
        .filter_map(|dependency| rule_broken_by(&member.name, dependency));
    rules
        .map(|rule| Violation {
            file: format!("{}/Cargo.toml", member.folder),
            rule,
        })
        .collect()
}

fn rule_broken_by(member: &str, dependency: &Dependency) -> Option<String> {
    let package = dependency.package.as_str();
    if BANNED.contains(&package) {
        return Some(format!("`{package}` is banned: TLS is rustls with ring"));
    }
    if is_ours(package) {
        return broken_between_ours(member, package, dependency.kind);
    }
    if PURE.contains(&member) && IMPURE_LIBRARIES.contains(&package) {
        return Some(format!(
            "`{member}` is pure and may not use `{package}`: values in, values out, no I/O and no runtime"
        ));
    }
    let restricted = RESTRICTED.iter().find(|restricted| restricted.covers(package))?;
    let is_test = dependency.kind == Kind::Dev;
    (!is_test && !restricted.users.contains(&member))
        .then(|| format!("`{member}` may not use `{package}`: {}", restricted.why))
}

fn broken_between_ours(member: &str, package: &str, kind: Kind) -> Option<String> {
    let allowed = may_import(member)?;
    if allowed.contains(&package) || (kind == Kind::Dev && may_test_with(member).contains(&package)) {
        return None;
    }
    if SERVICES.contains(&member) && SERVICES.contains(&package) {
        return Some(format!(
            "services never import each other: `{member}` imports `{package}`; talk through events"
        ));
    }
    let allowed = if allowed.is_empty() {
        "nothing of ours".to_owned()
    } else {
        format!("only {}", allowed.join(", "))
    };
    let in_tests = match may_test_with(member) {
        [] => String::new(),
        more => format!(", in tests also {}", more.join(", ")),
    };
    Some(format!(
        "`{member}` may import {allowed}{in_tests}; it imports `{package}`"
    ))
}

fn is_ours(package: &str) -> bool {
    PURE.contains(&package)
        || SERVICES.contains(&package)
        || TOP.contains(&package)
        || ["chassis", "transactions", "local-stack", "xtask"].contains(&package)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(member: &str, package: &str, kind: Kind) -> Option<String> {
        let member = Member {
            name: member.to_owned(),
            folder: member.to_owned(),
            dependencies: vec![Dependency {
                package: package.to_owned(),
                kind,
            }],
            sources: Vec::new(),
        };
        violations(&member).pop().map(|violation| {
            assert_eq!(violation.file, format!("{}/Cargo.toml", member.name));
            violation.rule
        })
    }

    #[test]
    fn what_is_allowed_passes() {
        for (member, package, kind) in [
            ("chassis", "schemas", Kind::Normal),
            ("chassis", "async-nats", Kind::Normal),
            ("chassis", "opentelemetry-otlp", Kind::Normal),
            ("chassis", "local-stack", Kind::Dev),
            ("drift-monitor", "drift-stats", Kind::Normal),
            ("drift-monitor", "sqlx", Kind::Normal),
            ("validator", "local-stack", Kind::Dev),
            ("validator", "async-nats", Kind::Dev),
            ("transactions", "chassis", Kind::Normal),
            ("trainer-bridge", "smartcore", Kind::Normal),
            ("scoring", "schemas", Kind::Normal),
            ("schemas", "schemas", Kind::Dev),
            ("vigie", "notifier", Kind::Normal),
            ("e2e", "vigie", Kind::Dev),
            ("xtask", "schemas", Kind::Normal),
            ("local-stack", "async-nats", Kind::Dev),
            ("bad-input", "chassis", Kind::Dev),
        ] {
            assert_eq!(found(member, package, kind), None, "{member} → {package}");
        }
    }

    #[test]
    fn what_breaks_a_rule_is_found_and_the_rule_is_named() {
        for (member, package, kind, part) in [
            (
                "drift-monitor",
                "notifier",
                Kind::Normal,
                "services never import each other",
            ),
            (
                "drift-monitor",
                "notifier",
                Kind::Dev,
                "services never import each other",
            ),
            (
                "drift-monitor",
                "local-stack",
                Kind::Normal,
                "in tests also local-stack",
            ),
            ("drift-monitor", "vigie", Kind::Dev, "it imports `vigie`"),
            ("validator", "async-nats", Kind::Normal, "only chassis knows NATS"),
            ("validator", "async-nats", Kind::Build, "only chassis knows NATS"),
            (
                "notifier",
                "opentelemetry",
                Kind::Normal,
                "only chassis sets up telemetry",
            ),
            (
                "vigie",
                "opentelemetry_sdk",
                Kind::Normal,
                "only chassis sets up telemetry",
            ),
            (
                "vigie",
                "tracing-opentelemetry",
                Kind::Normal,
                "only chassis sets up telemetry",
            ),
            (
                "validator",
                "smartcore",
                Kind::Normal,
                "only trainer-bridge trains",
            ),
            ("vigie", "lettre", Kind::Normal, "only notifier writes"),
            ("drift-stats", "tokio", Kind::Normal, "is pure"),
            ("scoring", "sqlx", Kind::Dev, "is pure"),
            ("schemas", "reqwest", Kind::Normal, "is pure"),
            (
                "drift-stats",
                "schemas",
                Kind::Normal,
                "may import nothing of ours",
            ),
            ("schemas", "chassis", Kind::Normal, "may import nothing of ours"),
            ("schemas", "schemas", Kind::Normal, "in tests also schemas"),
            ("chassis", "transactions", Kind::Normal, "may import only schemas"),
            ("local-stack", "chassis", Kind::Dev, "may import nothing of ours"),
            ("xtask", "chassis", Kind::Normal, "may import only schemas"),
            ("xtask", "sqlx", Kind::Normal, "only chassis owns pools"),
            ("bad-input", "chassis", Kind::Normal, "may import nothing of ours"),
            ("newcomer", "chassis", Kind::Normal, "may import nothing of ours"),
            ("notifier", "native-tls", Kind::Dev, "banned"),
        ] {
            let rule = found(member, package, kind).unwrap_or_else(|| panic!("{member} → {package} passes"));
            assert!(rule.contains(part), "{member} → {package}: {rule}");
        }
    }
}
