"""Prometheus, Tempo and Grafana: their files can be read, fit each other, and name only what the code exports."""

import json
import re
import tomllib

from checks import exported, queries
from checks.containers import SERVICES
from checks.loading import load


def problems(folder):
    """Everything wrong, one sentence each."""
    found = []
    root = folder.parent
    series = exported.metrics(root, found)
    views = exported.views(root, found)
    found += check_scraping(folder)
    rules = load((folder / "prometheus" / "rules.yml").read_text("utf-8"), "rules.yml", found)
    found += check_rules(rules, series)
    found += check_rule_tests(folder, rules)
    sources = check_sources(folder, found)
    dashboards = sorted((folder / "grafana" / "dashboards").glob("*.json"))
    if not dashboards:
        found.append("grafana/dashboards holds no dashboard")
    for path in dashboards:
        try:
            dashboard = json.loads(path.read_text("utf-8"))
        except json.JSONDecodeError as error:
            found.append(f"{path.name}: {error}")
            continue
        found += [f"{path.name}: {problem}" for problem in check_dashboard(dashboard, sources, series, views)]
    tempo = load((folder / "tempo.yaml").read_text("utf-8"), "tempo.yaml", found) or {}
    if "http" not in tempo.get("distributor", {}).get("receivers", {}).get("otlp", {}).get("protocols", {}):
        found.append("tempo.yaml: must receive OTLP over HTTP, which is what the services send")
    return found


def summary(folder):
    nothing = []
    series, views = exported.metrics(folder.parent, nothing), exported.views(folder.parent, nothing)
    return f"panels and rules name only the {len(series)} series and {len(views)} views that exist"


def check_scraping(folder):
    found = []
    prometheus = load((folder / "prometheus" / "prometheus.yml").read_text("utf-8"), "prometheus.yml", found) or {}
    http = tomllib.loads((folder / "vigie.toml").read_text("utf-8")).get("http", {})
    wanted = {f"{name}:{str(http.get(key, '')).rpartition(':')[2]}" for name, key in SERVICES.items()}
    scraped = {
        target
        for job in prometheus.get("scrape_configs") or []
        for static in job.get("static_configs") or []
        for target in static.get("targets") or []
    }
    found += [f"prometheus.yml: does not ask {target}" for target in sorted(wanted - scraped)]
    found += [f"prometheus.yml: nobody answers at {target}" for target in sorted(scraped - wanted)]
    for name in prometheus.get("rule_files") or []:
        if not (folder / "prometheus" / name).is_file():
            found.append(f"prometheus.yml: `{name}` does not exist")
    return found


def rules_of(document):
    groups = document.get("groups") if isinstance(document, dict) else None
    return [rule for group in groups or [] for rule in group.get("rules") or []]


def check_rules(document, series):
    found, seen = [], set()
    rules = rules_of(document)
    if not rules:
        found.append("rules.yml: has no rules")
    for rule in rules:
        name = rule.get("alert") or rule.get("record") or "?"
        if name in seen:
            found.append(f"rules.yml: `{name}` stands twice")
        seen.add(name)
        found += [f"rules.yml: {name}: {problem}" for problem in queries.promql(str(rule.get("expr", "")), series)]
        if rule.get("labels", {}).get("severity") not in ("critical", "warning", "info"):
            found.append(f"rules.yml: {name}: severity must be critical, warning or info")
        for key in ("summary", "action"):
            if not rule.get("annotations", {}).get(key):
                found.append(f"rules.yml: {name}: lacks the annotation `{key}`")
        found += check_templates(name, rule, series)
    return found


def check_templates(name, rule, series):
    """A label that a text shows must survive the expression's grouping."""
    expression = str(rule.get("expr", ""))
    grouped = [set(re.findall(r"\w+", labels)) for labels in re.findall(r"\bby\s*\(([^)]*)\)", expression)]
    used = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule.get("annotations", {}))))
    if grouped:
        missing = {label for label in used if not all(label in labels for labels in grouped)}
    else:
        # Without grouping an aggregation keeps nothing, and a plain selector keeps everything.
        aggregated = re.search(r"\b(sum|max|min|avg|count)\s*\(", expression)
        names = [labels for metric, labels in series.items() if re.search(rf"\b{metric}\b", expression)]
        missing = used if aggregated else {label for label in used if not all(label in labels for labels in names)}
    return [f"rules.yml: {name}: shows `{label}`, which its expression does not keep" for label in sorted(missing)]


def check_rule_tests(folder, rules):
    found = []
    document = load((folder / "prometheus" / "rules_test.yml").read_text("utf-8"), "rules_test.yml", found) or {}
    names = {rule.get("alert") for rule in rules_of(rules)}
    for test in document.get("tests") or []:
        for case in test.get("alert_rule_test") or []:
            if case.get("alertname") not in names:
                found.append(f"rules_test.yml: there is no rule `{case.get('alertname')}`")
    return found


def check_sources(folder, found):
    """Data source uid → type."""
    sources, uids = {}, set()
    for path in sorted((folder / "grafana" / "provisioning" / "datasources").glob("*.yaml")):
        document = load(path.read_text("utf-8"), path.name, found) or {}
        for source in document.get("datasources") or []:
            if source.get("uid") in uids:
                found.append(f"{path.name}: uid `{source.get('uid')}` stands twice")
            uids.add(source.get("uid"))
            sources[source.get("uid")] = source.get("type")
            for key, value in (source.get("secureJsonData") or {}).items():
                if not re.fullmatch(r"\$\w+|\$\{\w+\}", str(value)):
                    found.append(f"{path.name}: {key} of `{source.get('name')}` must come from the environment")
    if not sources:
        found.append("grafana/provisioning/datasources names no data source")
    for path in sorted((folder / "grafana" / "provisioning" / "dashboards").glob("*.yaml")):
        load(path.read_text("utf-8"), path.name, found)
    return sources


def check_dashboard(dashboard, sources, series, views):
    found, ids = [], set()
    for panel in dashboard.get("panels") or []:
        where = f"panel `{panel.get('title')}`"
        if panel.get("id") in ids:
            found.append(f"{where}: id {panel.get('id')} stands twice")
        ids.add(panel.get("id"))
        if panel.get("type") == "row":
            continue
        targets = panel.get("targets") or []
        if not targets:
            found.append(f"{where}: asks nothing")
        for target in targets:
            found += [f"{where}: {problem}" for problem in check_target(target, sources, series, views)]
    for variable in dashboard.get("templating", {}).get("list") or []:
        where = f"variable `{variable.get('name')}`"
        target = {"datasource": variable.get("datasource"), "rawSql": variable.get("query")}
        found += [f"{where}: {problem}" for problem in check_target(target, sources, series, views)]
    for annotation in dashboard.get("annotations", {}).get("list") or []:
        target = {"datasource": annotation.get("datasource"), **(annotation.get("target") or {})}
        found += [f"annotation `{annotation.get('name')}`: {problem}" for problem in check_target(target, sources, series, views)]
    return found


def check_target(target, sources, series, views):
    source = target.get("datasource") or {}
    kind = sources.get(source.get("uid"))
    if kind is None:
        return [f"there is no data source `{source.get('uid')}`"]
    if kind != source.get("type"):
        return [f"data source `{source.get('uid')}` is of type {kind}, not {source.get('type')}"]
    if kind == "prometheus":
        return queries.promql(str(target.get("expr", "")), series)
    if kind == "grafana-postgresql-datasource":
        return queries.sql(str(target.get("rawSql", "")), views)
    if kind == "tempo":
        return [] if str(target.get("query", "")).startswith("{") else ["has no TraceQL query"]
    return [f"this check does not know data sources of type {kind}"]
