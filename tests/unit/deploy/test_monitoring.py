"""What ships for Prometheus and Grafana names what the services really tell, and every alert says what to do."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.metrics import MetricWrapperBase

from tests.fixtures.prometheus import PrometheusTools

ROOT = Path(__file__).parents[3]
PROMETHEUS = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"
RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))
RULE_TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
SERVICES = ("autoscaler", "executor", "hub", "scheduler", "simulator", "status", "watcher")
MODULES = {
    **{f"services/{name}": f"services.{name}.metrics" for name in SERVICES if name != "simulator"},
    "services/simulator": "services.simulator.telemetry",
    "shared/adapters/kafka": "shared.adapters.kafka.metrics",
    "shared/runtime": "shared.runtime.health",
}
# Of Prometheus itself, and of the client's own collectors.
FOREIGN = {"up", "process_cpu_seconds_total"}

Rule = dict[str, Any]


def rules() -> Iterator[Rule]:
    for file in RULES:
        for group in yaml.safe_load(file.read_text())["groups"]:
            yield from group["rules"]


def modules() -> dict[str, ModuleType]:
    return {folder: importlib.import_module(name) for folder, name in MODULES.items()}


def told() -> set[str]:
    """The names of all series that some service tells."""
    modules()
    names = set(FOREIGN)
    for family in REGISTRY.collect():
        if family.type == "counter":
            names.add(f"{family.name}_total")
        elif family.type == "histogram":
            names |= {f"{family.name}_{part}" for part in ("bucket", "sum", "count")}
        else:
            names.add(family.name)
    return names


def named(query: str) -> set[str]:
    """The series that a query names."""
    bare = re.sub(r'"[^"]*"', "", query)
    return set(re.findall(r"(?:[a-z_]+:)?flotilla_[a-z0-9_]+(?::[a-z0-9_]+)?|\bup\b|\bprocess_[a-z_]+", bare))


def queries(dashboard: Path) -> list[str]:
    return [target["expr"] for panel in json.loads(dashboard.read_text())["panels"] for target in panel["targets"]]


def test_every_metric_that_a_rule_or_a_dashboard_names_is_told() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    known = told() | recorded
    asked = [rule["expr"] for rule in rules()] + [query for file in DASHBOARDS for query in queries(file)]
    assert len(asked) > 100
    assert {name for query in asked for name in named(query)} - known == set()
    assert all(named(query) for query in asked)


def test_what_a_service_defines_it_also_tells() -> None:
    for folder, module in modules().items():
        text = "".join(path.read_text() for path in (ROOT / folder).rglob("*.py"))
        for name, value in vars(module).items():
            if isinstance(value, MetricWrapperBase) and not name.startswith("_"):
                uses = re.findall(rf"\b{name}\b\.(?:labels|inc|set|observe|time|clear)|\({name},|\.{name}[,)]", text)
                assert uses, f"{name} of {folder} is never set"


def test_names_are_of_the_fleet_and_their_service() -> None:
    for folder, module in modules().items():
        service = folder.removeprefix("services/")
        prefix = f"flotilla_{service}_" if service in SERVICES else "flotilla_"
        for name, value in vars(module).items():
            if isinstance(value, MetricWrapperBase):
                assert value._name.startswith(prefix), name


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    headings = re.findall(r"^### (\w+)$", (ROOT / "docs" / "runbooks.md").read_text(), re.MULTILINE)
    alerts = [rule for rule in rules() if "alert" in rule]
    assert sorted(headings) == sorted(rule["alert"] for rule in alerts)
    for rule in alerts:
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"]["runbook_url"] == f"docs/runbooks.md#{rule['alert'].lower()}"
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]


def test_every_alert_has_a_test_that_fires_it_and_one_that_does_not() -> None:
    tests = [test for file in RULE_TESTS for test in yaml.safe_load(file.read_text())["tests"]]
    cases = [case for test in tests for case in test.get("alert_rule_test", ())]
    alerts = {rule["alert"] for rule in rules() if "alert" in rule}
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == alerts
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == alerts


def test_every_recording_rule_is_used() -> None:
    asked = [rule["expr"] for rule in rules()] + [query for file in DASHBOARDS for query in queries(file)]
    used = {name for query in asked for name in named(query)}
    assert {rule["record"] for rule in rules() if "record" in rule} - used == set()


def test_every_service_of_the_compose_file_is_scraped() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    ours = {
        name
        for name, item in compose.items()
        if str(item.get("image", "")).startswith("flotilla-") and "profiles" not in item
    }
    jobs = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    targets = {target for job in jobs for entry in job["static_configs"] for target in entry["targets"]}
    assert targets == {f"{name}:8080" for name in ours}
    assert {job["job_name"] for job in jobs} == {f"flotilla-{name}" for name in SERVICES}


def test_every_pod_of_the_charts_is_scraped_under_the_name_of_its_service() -> None:
    (job,) = yaml.safe_load((PROMETHEUS / "kubernetes.yml").read_text())["scrape_configs"]
    name, _, value = job["kubernetes_sd_configs"][0]["selectors"][0]["label"].partition("=")
    labels = [label for rule in job["relabel_configs"] for label in rule["source_labels"]]
    assert "__meta_kubernetes_pod_label_app_kubernetes_io_component" in labels
    found = set()
    for file in (ROOT / "deploy" / "kustomize").glob("*/base/manifests.yaml"):
        for document in yaml.safe_load_all(file.read_text()):
            pod = document.get("spec", {}).get("template") if document["kind"] == "Deployment" else None
            if pod is None:
                continue
            ports = [port["name"] for container in pod["spec"]["containers"] for port in container["ports"]]
            assert pod["metadata"]["labels"][name] == value
            assert "http" in ports
            found.add(pod["metadata"]["labels"]["app.kubernetes.io/component"])
    # The simulator is in no chart.
    assert found == set(SERVICES) - {"simulator"}


def test_dashboards_ask_the_data_source_that_is_provisioned() -> None:
    (source,) = yaml.safe_load((GRAFANA / "datasources.yml").read_text())["datasources"]
    assert {file.stem for file in DASHBOARDS} == {"fleet", "scheduler", "agents", "autoscaler"}
    for file in DASHBOARDS:
        document = json.loads(file.read_text())
        assert document["uid"] == f"flotilla-{file.stem}"
        for panel in document["panels"]:
            uids = {panel["datasource"]["uid"], *(target["datasource"]["uid"] for target in panel["targets"])}
            assert uids == {source["uid"]}, panel["title"]


# promtool makes a database for each of its tests, which takes half a minute where others have the disk.
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", str(PROMETHEUS / "prometheus.yml")),
        ("check", "rules", "--lint-fatal", *map(str, RULES)),
        ("test", "rules", *map(str, RULE_TESTS)),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_promtool_agrees(prometheus_tools: PrometheusTools, arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [prometheus_tools.promtool, *arguments], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_names_are_what_promtool_wants(prometheus_tools: PrometheusTools) -> None:
    modules()
    done = subprocess.run(
        [prometheus_tools.promtool, "check", "metrics"],
        input=generate_latest(REGISTRY),
        capture_output=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
