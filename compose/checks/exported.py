"""What the code exports: metric names with their labels, and the public views with their columns.

Read from the sources, where every metric is registered in a `metrics.rs` and every view is created in a migration.
"""

import re

REGISTRATION = re.compile(
    r'registry\.register\(\s*"(?P<name>[a-zA-Z0-9_:]+)"\s*,\s*"(?:[^"\\]|\\.)*"\s*,\s*(?:\w+\.)?(?P<field>\w+)\.clone\(\)'
)
ANY_REGISTRATION = re.compile(r'registry\s*\.register\w*\(\s*"(?P<name>[^"]+)"')
LABELS = re.compile(r"pub struct (?P<name>\w+Labels) \{(?P<body>.*?)\n\}", re.DOTALL)
# What Prometheus and the registry add to every series.
COMMON_LABELS = {"job", "instance", "service"}
SUFFIXES = {"Counter": ["_total"], "Gauge": [""], "Histogram": ["_bucket", "_sum", "_count"]}


def metrics(root, problems):
    """Series name → labels."""
    series = {"up": {"job", "instance"}}
    for path in sorted(root.glob("*/src/**/metrics.rs")):
        source = path.read_text("utf-8")
        shown = path.relative_to(root)
        labels = {
            match["name"]: set(re.findall(r"^\s*pub (?:r#)?(\w+):", match["body"], re.MULTILINE)) for match in LABELS.finditer(source)
        }
        read = set()
        for match in REGISTRATION.finditer(source):
            name, field = match["name"], match["field"]
            declared = re.search(rf"^\s*(?:pub )?{field}: (.+),$", source, re.MULTILINE)
            kind = re.search(r"Counter|Gauge|Histogram", declared[1]) if declared else None
            if not kind:
                problems.append(f"{shown}: cannot tell what kind of metric `{name}` is (field `{field}`)")
                continue
            own = re.search(r"Family<(\w+)", declared[1])
            if own and own[1] not in labels:
                problems.append(f"{shown}: cannot find the labels `{own[1]}` of `{name}`")
            names = labels.get(own[1], set()) if own else set()
            for suffix in SUFFIXES[kind[0]]:
                extra = {"le"} if suffix == "_bucket" else set()
                series[name + suffix] = names | COMMON_LABELS | extra
            read.add(name)
        for match in ANY_REGISTRATION.finditer(source):
            if match["name"] not in read:
                problems.append(f"{shown}: the registration of `{match['name']}` cannot be read; write it as its neighbours are")
    return series


def views(root, problems):
    """Public view → columns."""
    found = {}
    for path in sorted(root.glob("*/migrations/*.sql")):
        text = re.sub(r"--[^\n]*", "", path.read_text("utf-8"))
        for match in re.finditer(r"create (?:or replace )?view public\.(\w+) as\s+select\s+(.*?)\s+from\s", text, re.DOTALL):
            found[match[1]] = {column_name(part) for part in split_list(match[2])}
    source = (root / "chassis" / "src" / "db.rs").read_text("utf-8")
    joined = re.sub(r"\\\n\s*", "", source)
    tasks = re.search(r"select ((?:(?!\bselect\b).)*?) from \{schema\}\.task_run", joined, re.DOTALL)
    if tasks and "create or replace view public.airflow_task_metrics" in joined:
        found["airflow_task_metrics"] = {column_name(part) for part in split_list(tasks[1])}
    else:
        problems.append("chassis/src/db.rs: the view airflow_task_metrics cannot be found")
    for name in ("drift_metrics", "retraining_triggers", "model_versions"):
        if name not in found:
            problems.append(f"no migration creates the view public.{name}")
    return found


def split_list(text):
    """Splits at commas outside parentheses."""
    depth, part = 0, ""
    for character in text:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            yield part
            part = ""
        else:
            part += character
    yield part


def column_name(expression):
    return re.findall(r"\w+", expression)[-1]


def environment_names(root):
    """Names of settings in the environment, besides VIGIE__SECTION__KEY."""
    sources = (path.read_text("utf-8") for path in sorted(root.glob("*/src/**/*.rs")))
    return {name for source in sources for name in re.findall(r"\bAlias\s*\{\s*name:\s*\"([A-Z0-9_]+)\"", source)}
