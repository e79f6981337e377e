"""Each check is shown something wrong and must say so; the real files are the case where all is well."""

import copy
import unittest
from pathlib import Path

from checks import containers, exported, observability, queries
from checks.loading import load

FOLDER = Path(__file__).resolve().parent.parent
SERIES = {"up": {"job", "instance"}, "vigie_x_total": {"model", "service"}, "vigie_y_bucket": {"le", "service"}, "vigie_y": {"service"}}
VIEWS = {"drift_metrics": {"detected_at", "metric_value", "model_name"}}


def compose():
    return load((FOLDER / "compose.yaml").read_text("utf-8"), "compose.yaml", [])


class Yaml(unittest.TestCase):
    def test_a_key_that_stands_twice_is_refused(self):
        found = []
        load("a: 1\na: 2\n", "x", found)
        self.assertIn("stands twice", found[0])


class Variables(unittest.TestCase):
    EXAMPLE = "DB_PASSWORD=\nHOST=\n"

    def said(self, text, example=EXAMPLE):
        return " ".join(containers.check_variables({"a": text, "b": "${DB_PASSWORD:?set it}${HOST:-}"}, example))

    def test_demanded_and_optional_variables_are_fine(self):
        self.assertEqual(self.said("${DB_PASSWORD:?set it} $$x"), "")

    def test_what_could_be_a_default_password_or_an_empty_one_is_not(self):
        self.assertIn("default", self.said("${DB_PASSWORD:-admin}"))
        self.assertIn("must be demanded", self.said("${DB_PASSWORD:-}"))
        self.assertIn("may be empty", self.said("${HOST}"))
        self.assertIn("must be written", self.said("$HOST"))
        self.assertIn("does not say", self.said("${DB_PASSWORD:?}"))
        self.assertIn("not in .env.example", self.said("${OTHER:-}"))
        self.assertIn("used nowhere", self.said("x", self.EXAMPLE + "OTHER=\n"))
        self.assertIn("has a value", self.said("x", "DB_PASSWORD=admin\nHOST=\n"))


class Containers(unittest.TestCase):
    def said(self, change):
        document = copy.deepcopy(compose())
        change(document["services"])
        found = containers.check_services(document, FOLDER) + containers.check_order(document["services"])
        return " ".join(found)

    def test_the_real_file_is_fine(self):
        self.assertEqual(containers.problems(FOLDER), [])

    def test_everything_wrong_is_said(self):
        cases = [
            (lambda s: s["nats"].update(ports=["4222:4222"]), "loopback"),
            (lambda s: s["nats"].update(ports=["0.0.0.0:4222:4222"]), "loopback"),
            (lambda s: s["nats"].update(image="nats:latest"), "no version"),
            (lambda s: s["nats"].pop("healthcheck"), "neither a healthcheck"),
            (lambda s: s["nats"]["healthcheck"].update(test="wget x"), "begins with CMD"),
            (lambda s: s["grafana"]["environment"].update(GF_SECURITY_ADMIN_PASSWORD="admin"), "a secret stands"),
            (lambda s: s["notifier"]["environment"].update(NATS_URL="nats://vigie:hush@nats:4222"), "password stands in a URL"),
            (lambda s: s["nats"]["volumes"].append("./missing.conf:/x:ro"), "does not exist"),
            (lambda s: s["nats"]["volumes"].append("./nats.conf:/x"), "read-only"),
            (lambda s: s["nats"]["volumes"].append("elsewhere:/x"), "not declared"),
            (lambda s: s["notifier"].update(depends_on=["nats"]), "must say a condition"),
            (lambda s: s["notifier"]["depends_on"].update(nats={"condition": "service_started"}), "wait for `service_healthy`"),
            (lambda s: s["notifier"]["depends_on"].update(tempo={"condition": "service_healthy"}), "without healthcheck"),
            (lambda s: s["notifier"]["depends_on"].pop("postgres"), "lacks postgres"),
            (lambda s: s["nats"].update(depends_on={"notifier": {"condition": "service_healthy"}}), "in a circle"),
            (lambda s: s["validator"].update(read_only=False), "read_only"),
            (lambda s: s["validator"].update(privileged=True), "rights on the host"),
            (lambda s: s.pop("validator"), "services.validator is missing"),
        ]
        for change, expected in cases:
            self.assertIn(expected, self.said(change))

    def test_the_image_is_built_as_promised(self):
        text = (FOLDER / "Dockerfile").read_text("utf-8")
        services = compose()["services"]
        for old, new, expected in [
            ("--locked", "", "lacks --locked"),
            ("USER 10001:10001", "", "must not run as root"),
            ("USER 10001:10001", "USER root", "must not run as root"),
            ("bookworm-slim\n# Cert", "latest\n# Cert", "no version"),
            ("--package validator", "", "no program `validator`"),
            ("compose/ready.sh", "compose/gone.sh", "does not exist"),
        ]:
            self.assertIn(old, text)
            said = " ".join(containers.check_image(text.replace(old, new), services, FOLDER.parent))
            self.assertIn(expected, said)

    def test_addresses_and_the_broker_fit(self):
        self.assertIn("another port", " ".join(containers.check_addresses({"http": {"notifier": "0.0.0.0:1"}}, compose()["services"])))
        self.assertIn("on disk", " ".join(containers.check_nats("# sync_interval: always\nstore_dir: /data\nmax_file_store: 1GB")))


    def test_environment_names_are_those_that_are_read(self):
        said = " ".join(containers.check_sample_environment("#NATS_URL=x\nMISSPELT_URL=x\n#VIGIE__A__B=1\n", {"NATS_URL", "NATS_CREDENTIALS"}))
        self.assertIn("no service reads `MISSPELT_URL`", said)
        self.assertIn("does not show `NATS_CREDENTIALS`", said)
        self.assertNotIn("VIGIE__A__B", said)
        said = " ".join(containers.check_environment({"x": {"build": {}, "environment": {"NATS_ULR": "x"}}}, {"NATS_URL"}))
        self.assertIn("no service reads `NATS_ULR`", said)


class Names(unittest.TestCase):
    def test_promql_names_what_is_exported(self):
        for fine in [
            'up{job="vigie"} == 0',
            "sum by (model) (increase(vigie_x_total[5m])) > 3 unless vigie_x_total offset 1h > 0",
            "histogram_quantile(0.95, sum by (le, service) (rate(vigie_y_bucket[$__rate_interval])))",
        ]:
            self.assertEqual(queries.promql(fine, SERIES), [], fine)
        for wrong, expected in [
            ("fraud_drift_score > 0.7", "nothing exports `fraud_drift_score`"),
            ("vigie_x > 0", "nothing exports `vigie_x`"),
            ('vigie_x_total{verdict="unknown"}', "no label `verdict`"),
            ("sum by (channel) (vigie_x_total)", "no label `channel`"),
            ("explode(vigie_x_total)", "no function"),
            ("1 + 1", "names no metric"),
        ]:
            self.assertIn(expected, " ".join(queries.promql(wrong, SERIES)), wrong)

    def test_sql_names_what_exists(self):
        fine = "select $__timeGroup(detected_at, '1h') as time, max(metric_value) as value from drift_metrics where $__timeFilter(detected_at) and model_name in (${model:sqlstring}) group by 1"
        self.assertEqual(queries.sql(fine, VIEWS), [])
        for wrong, expected in [
            ("select metric_value from drift_metric", "no view `drift_metric`"),
            ("select psi from drift_metrics", "no column `psi`"),
            ("select explode(metric_value) from drift_metrics", "no function"),
            ("select 1", "reads no view"),
        ]:
            self.assertIn(expected, " ".join(queries.sql(wrong, VIEWS)), wrong)

    def test_the_code_is_read(self):
        found = []
        series, views = exported.metrics(FOLDER.parent, found), exported.views(FOLDER.parent, found)
        self.assertEqual(found, [])
        self.assertLessEqual({"subject", "outcome"}, series["vigie_events_handled_total"])
        self.assertEqual(series["vigie_alerts_sent_total"], {"channel", "job", "instance", "service"})
        self.assertLessEqual({"detected_at", "metric_value", "feature_name"}, views["drift_metrics"])
        self.assertLessEqual({"dag_id", "task_id", "duration_seconds", "id"}, views["airflow_task_metrics"])


class Panels(unittest.TestCase):
    def test_the_real_files_are_fine(self):
        self.assertEqual(observability.problems(FOLDER), [])

    def test_a_rule_says_what_to_do_about_labels_it_keeps(self):
        rule = {"alert": "A", "expr": "sum(vigie_x_total) > 0", "labels": {"severity": "bad"}, "annotations": {"summary": "{{ $labels.model }}"}}
        said = " ".join(observability.check_rules({"groups": [{"rules": [rule, rule]}]}, SERIES))
        for expected in ["severity", "annotation `action`", "shows `model`", "stands twice"]:
            self.assertIn(expected, said)

    def test_a_panel_asks_a_source_that_exists(self):
        target = {"datasource": {"uid": "gone", "type": "prometheus"}, "expr": "up"}
        panels = [{"id": 1, "title": "a", "targets": [target]}, {"id": 1, "title": "b", "targets": []}]
        said = " ".join(observability.check_dashboard({"panels": panels}, {"prometheus": "prometheus"}, SERIES, VIEWS))
        for expected in ["no data source `gone`", "stands twice", "asks nothing"]:
            self.assertIn(expected, said)
