"""Each variable that a container is given is a setting of the service that runs in it, with a value that it takes."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.runtime.settings import CommonSettings

ROOT = Path(__file__).parents[3]
PREFIX = "FLOTILLA_"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
BASES = sorted((ROOT / "deploy" / "kustomize").glob("*/base/manifests.yaml"))

Container = tuple[str, Mapping[str, str]]  # the service's module, and what it is given


def filled(value: object) -> str:
    """As compose fills in `${NAME:-default}` where nothing is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value))


def of_compose() -> Iterator[tuple[str, Container]]:
    for name, service in COMPOSE["services"].items():
        if str(service.get("image", "")).startswith("flotilla-"):
            given = {key: filled(value) for key, value in service["environment"].items()}
            yield f"compose {name}", (service["command"][0], given)


def of_charts() -> Iterator[tuple[str, Container]]:
    for file in BASES:
        for document in yaml.safe_load_all(file.read_text()):
            if document["kind"] == "Deployment":
                (container,) = document["spec"]["template"]["spec"]["containers"]
                given = {item["name"]: item["value"] for item in container["env"] if "value" in item}
                yield f"chart {document['metadata']['name']}", (container["args"][0], given)


CONTAINERS = dict((*of_compose(), *of_charts()))


def settings_of(module: str) -> type[CommonSettings]:
    """What `python -m module` reads; a service has it in a module of its own."""
    found = importlib.import_module(f"{module}.settings" if module.startswith("services.") else module)
    (own,) = (
        value
        for value in vars(found).values()
        if isinstance(value, type) and issubclass(value, CommonSettings) and value.__module__ == found.__name__
    )
    return own


def unknown_settings(module: str, given: Iterable[str]) -> set[str]:
    """Variables of ours that are none of the module's settings."""
    known = settings_of(module).model_fields
    return {name for name in given if name.startswith(PREFIX) and name.removeprefix(PREFIX).lower() not in known}


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS.keys())
def test_what_a_container_is_given_are_settings_of_its_service(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, given = container
    assert unknown_settings(module, given) == set()
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings_of(module)()


def test_every_k3s_cluster_has_a_pair_of_agents_of_its_own() -> None:
    services = COMPOSE["services"]
    clusters = [name for name in services if re.fullmatch(r"k3s-\d", name)]
    assert len(clusters) == 3
    for cluster in clusters:
        server = services[cluster]
        (kubeconfig,) = {server["environment"][name] for name in ("K3S_KUBECONFIG_OUTPUT", "KUBECONFIG")}
        (volume,) = server["volumes"]
        name, folder = volume.split(":")
        ports = set()
        for agent in ("watcher", "executor"):
            own = services[f"{agent}-{cluster}"]
            given = own["environment"]
            assert own["network_mode"] == f"service:{cluster}"
            assert own["depends_on"][cluster] == {"condition": "service_healthy"}
            assert given[f"FLOTILLA_{agent.upper()}_CLUSTER"] == cluster
            assert given[f"FLOTILLA_{agent.upper()}_KUBECONFIG"] == kubeconfig
            assert Path(kubeconfig).parent == Path(folder)
            assert own["volumes"] == [f"{name}:{folder}:ro"]
            assert own["profiles"] == server["profiles"] == ["k3s"]
            ports.add(given["FLOTILLA_HTTP_PORT"])
        # They share the network of their cluster, in which the API server has 6443.
        assert len(ports) == 2
        assert name in COMPOSE["volumes"]
    assert len({services[cluster]["volumes"][0] for cluster in clusters}) == 3
