"""Reads PromQL and SQL far enough to see which names they use."""

import re

PROMQL_FUNCTIONS = set(
    "abs absent absent_over_time avg avg_over_time bottomk ceil changes clamp clamp_max clamp_min count count_over_time "
    "count_values delta deriv exp floor group histogram_quantile idelta increase irate label_join label_replace last_over_time "
    "ln log10 log2 max max_over_time min min_over_time predict_linear quantile quantile_over_time rate resets round scalar sort "
    "sort_desc stddev stddev_over_time stdvar sum sum_over_time time timestamp topk vector".split()
)
PROMQL_WORDS = set("and or unless bool offset inf nan".split())
GROUPING = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\s*\{([^}]*)\}")
MATCHER = re.compile(r'\s*(\w+)\s*(=~|!~|!=|=)\s*""\s*')

SQL_WORDS = set(
    "all and any as asc between by case cast desc distinct else end false filter from group having in interval is join left "
    "like limit not null offset on or order over partition select then true union using when where with lateral cross inner".split()
)
SQL_FUNCTIONS = set(
    "avg coalesce count date_trunc extract greatest least lower max min now nullif round sum upper percentile_cont within epoch".split()
)


def promql(expression, series):
    """What is wrong with the names in a PromQL expression."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', expression)
    found, used, asked = [], set(), set()
    for match in GROUPING.finditer(bare):
        asked.update(re.findall(r"\w+", match[2]))
    bare = GROUPING.sub(" ", bare)
    for match in SELECTOR.finditer(bare):
        if match[1] in series:
            for matcher in filter(str.strip, match[2].split(",")):
                label = MATCHER.fullmatch(matcher)
                if not label:
                    found.append(f"cannot read the matcher `{matcher.strip()}`")
                elif label[1] not in series[match[1]]:
                    found.append(f"`{match[1]}` has no label `{label[1]}`")
    bare = re.sub(r"\{[^}]*\}", " ", bare)
    bare = re.sub(r"\[[^\]]*\]", " ", bare)
    for match in re.finditer(r"(?<![\w.])([a-zA-Z_:][\w:]*)\s*(\()?", bare):
        name, call = match[1], match[2]
        if call and name not in PROMQL_WORDS:
            if name not in PROMQL_FUNCTIONS:
                found.append(f"`{name}` is no function this check knows")
        elif name not in PROMQL_WORDS:
            used.add(name)
    found += [f"nothing exports `{name}`" for name in sorted(used) if name not in series]
    for name in sorted(used & set(series)):
        found += [f"`{name}` has no label `{label}` to group by" for label in sorted(asked - series[name])]
    if not used:
        found.append("names no metric")
    return found


def sql(query, views):
    """What is wrong with the names in a query of a panel."""
    bare = re.sub(r"'(?:[^']|'')*'", "''", query)
    bare = re.sub(r"\$\{\w+(?::\w+)?\}", "''", bare)
    bare = re.sub(r"\$__\w+", "", bare)
    found, columns = [], set()
    relations = re.findall(r"\b(?:from|join)\s+([\w.]+)", bare)
    for relation in relations:
        name = relation.removeprefix("public.")
        if name in views:
            columns |= views[name]
        else:
            found.append(f"there is no view `{relation}`")
    if not relations:
        found.append("reads no view")
    renamed = set(re.findall(r"\bas\s+(\w+)", bare))
    known = columns | renamed | SQL_WORDS | {part for relation in relations for part in relation.split(".")}
    for match in re.finditer(r"(?<![\w.])([a-z_]\w*)\s*(\()?", bare):
        name, call = match[1], match[2]
        if call and name not in SQL_WORDS:
            if name not in SQL_FUNCTIONS:
                found.append(f"`{name}` is no function this check knows")
        elif name not in known:
            found.append(f"no column `{name}` in {', '.join(relations) or 'nothing'}")
    return found
