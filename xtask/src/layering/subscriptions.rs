//! What a service subscribes to is what the published flow says it reads.

use schemas::EventKind;

use super::Violation;
use super::imports::SERVICES;
use super::workspace::Member;

/// The list of a service ends its declaration like this, under any name.
const DECLARATION: &str = ": &[EventKind] = &[";

/// What differs between the list in a service and `schemas/src/flow.rs`.
pub(super) fn violations(member: &Member) -> Vec<Violation> {
    if !SERVICES.contains(&member.name.as_str()) {
        return Vec::new();
    }
    let documented: Vec<String> = EventKind::read_by(&member.name)
        .iter()
        .map(|kind| format!("{kind:?}"))
        .collect();
    let declared = member
        .sources
        .iter()
        .filter_map(|source| Some((source, subscription(&source.text)?)));
    let lists: Vec<_> = declared.collect();
    let [(source, subscribed)] = &lists[..] else {
        let rule = format!(
            "{} lists of subscribed events (`pub const …{DECLARATION}…]`) in `{}`; there must be one",
            lists.len(),
            member.name
        );
        return vec![Violation {
            file: format!("{}/src", member.folder),
            rule,
        }];
    };
    let missing = documented.iter().filter(|kind| !subscribed.contains(kind));
    let missing = missing.map(|kind| {
        format!(
            "`{}` must read {kind} (schemas/src/flow.rs) and does not subscribe to it",
            member.name
        )
    });
    let extra = subscribed.iter().filter(|kind| !documented.contains(kind));
    let extra = extra.map(|kind| {
        format!(
            "`{}` subscribes to {kind}; name it as a reader in schemas/src/flow.rs",
            member.name
        )
    });
    missing
        .chain(extra)
        .map(|rule| Violation {
            file: source.path.clone(),
            rule,
        })
        .collect()
}

/// The kinds of the first list of events in a file.
fn subscription(text: &str) -> Option<Vec<String>> {
    // However the declaration is broken into lines.
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (_, list) = text.split_once(DECLARATION)?;
    let (list, _) = list.split_once(']')?;
    let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
    Some(
        names
            .map(|name| name.trim_start_matches("EventKind::").to_owned())
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::super::workspace::Source;
    use super::*;

    fn found(service: &str, texts: &[&str]) -> Vec<String> {
        let source = |text: &&str| Source {
            path: format!("{service}/src/lib.rs"),
            text: (*text).to_owned(),
        };
        let member = Member {
            name: service.to_owned(),
            folder: service.to_owned(),
            sources: texts.iter().map(source).collect(),
            ..Member::default()
        };
        violations(&member).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_list_that_equals_the_flow_passes_in_any_order() {
        let monitor = "pub const SUBSCRIPTION: &[EventKind] =\n    &[EventKind::ModelPromoted, EventKind::DriftCheckRequested];";
        assert_eq!(
            found("drift-monitor", &[monitor, "fn other() {}"]),
            Vec::<String>::new()
        );
        assert_eq!(
            found(
                "validator",
                &["const K: &[EventKind] = &[\n    EventKind::ModelTrained,\n];"]
            ),
            Vec::<String>::new()
        );
        assert_eq!(found("vigie", &[]), Vec::<String>::new());
    }

    #[test]
    fn what_is_missing_and_what_is_undocumented_is_named() {
        let rules = found(
            "validator",
            &["pub const K: &[EventKind] = &[EventKind::AlertSent];"],
        );
        assert_eq!(rules.len(), 2, "{rules:?}");
        assert!(
            rules[0].contains("validator/src/lib.rs: `validator` must read ModelTrained"),
            "{rules:?}"
        );
        assert!(rules[1].contains("subscribes to AlertSent"), "{rules:?}");
        let rules = found("validator", &["fn nothing() {}"]);
        assert!(rules[0].contains("0 lists of subscribed events"), "{rules:?}");
    }
}
