"""The alert rules, by Prometheus' own promtool."""

from itertools import chain

import pytest
import yaml

from tests.deploy.exposition import between
from tests.deploy.programs import program, said


@pytest.fixture
def folder(deploy):
    return deploy / "prometheus"


def alerts(folder):
    groups = yaml.safe_load((folder / "rules.yml").read_text())["groups"]
    rules = chain.from_iterable(group["rules"] for group in groups)
    return {rule["alert"]: rule for rule in rules if "alert" in rule}


def test_rules_and_configuration_are_sound(folder):
    promtool = program("promtool", "Debian's prometheus")
    said(promtool, "check", "rules", "rules.yml", cwd=folder)
    said(promtool, "check", "config", "prometheus.yml", cwd=folder)


def test_each_alert_fires_when_it_should_and_is_silent_else(folder):
    promtool = program("promtool", "Debian's prometheus")
    assert "SUCCESS" in said(promtool, "test", "rules", "rules_test.yml", cwd=folder)


def test_no_alert_is_without_a_test_that_it_fires_and_that_it_is_silent(folder):
    tests = yaml.safe_load((folder / "rules_test.yml").read_text())["tests"]
    fires = set()
    for test in tests:
        for case in test.get("promql_expr_test", []):
            for sample in case["exp_samples"]:
                if sample["labels"].startswith("ALERTS"):
                    fires.add(sample["labels"].split('"')[1])
        for case in test.get("alert_rule_test", []):
            fires |= {case["alertname"]} if case["exp_alerts"] else set()
    assert fires == set(alerts(folder))
    healthy = {
        series["series"].partition("{")[0] for series in tests[0]["input_series"]
    }
    wanted = {
        name
        for rule in alerts(folder).values()
        for name in chain(*(word.split("(") for word in rule["expr"].split()))
        if name.startswith("ptystream_")
    }
    assert {name.split("{")[0].split("[")[0] for name in wanted} <= healthy


def test_each_alert_says_what_it_is_and_what_to_do(folder):
    for name, rule in alerts(folder).items():
        assert rule["labels"]["severity"] in ("info", "warning", "critical"), name
        assert set(rule["annotations"]) == {"summary", "action"}, name


def test_the_page_names_each_alert(deploy, folder):
    rows = between((deploy / "README.md").read_text(), "alerts")[2:]
    told = {tuple(cell.strip(" `") for cell in row.split("|")[1:3]) for row in rows}
    rules = {
        (name, rule["labels"]["severity"]) for name, rule in alerts(folder).items()
    }
    assert told == rules
