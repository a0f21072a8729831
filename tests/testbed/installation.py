"""Where the test bed's binaries are, and which: the pins of go.mod made into a directory name.

The hash of `go.mod`, `go.sum`, the link flags and the platform name the directory, so a changed pin is another
directory and checkouts with the same pins share one build. Nothing here needs Go or a network.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

MODULE: Final = Path(__file__).resolve().parent
BINARIES: Final = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kwok")

# kwok's life cycles of nodes and pods, in its module. The kustomization files beside them are not wanted.
STAGES: Final = (
    "kustomize/stage/node/fast/node-initialize.yaml",
    "kustomize/stage/node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
    "kustomize/stage/pod/fast/pod-ready.yaml",
    "kustomize/stage/pod/fast/pod-complete.yaml",
    "kustomize/stage/pod/fast/pod-delete.yaml",
)
# The modules whose `generated.proto` and `types.go` files say what Kubernetes' protobuf looks like.
WIRE_MODULES: Final = ("k8s.io/api", "k8s.io/apimachinery")
GO_ARCHITECTURE: Final = {"x86_64": "amd64", "aarch64": "arm64"}


class MissingBinariesError(RuntimeError):
    """What the build leaves is not on this machine; the message says how to build it."""


def cache_root() -> Path:
    """The directory of all builds: $FLOTILLA_CACHE or ~/.cache/flotilla, then `testbed`."""
    configured = os.environ.get("FLOTILLA_CACHE")
    return (Path(configured) if configured else Path.home() / ".cache" / "flotilla") / "testbed"


def pinned(module: str) -> str:
    """The version that go.mod requires of a module, such as `v1.36.3`."""
    found = re.search(rf"^\s*{re.escape(module)} (v\S+)", (MODULE / "go.mod").read_text(), re.MULTILINE)
    if found is None:
        raise LookupError(f"{MODULE / 'go.mod'} does not require {module}")
    return found.group(1)


def link_flags() -> str:
    """Strip debug information, and say the version as a release build would (kubectl version, GET /version)."""
    version = pinned("k8s.io/kubernetes")
    major, minor, _ = version.removeprefix("v").split(".", 2)
    stamped = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    return " ".join(["-s -w", *(f"-X k8s.io/component-base/version.{k}={v}" for k, v in stamped.items())])


def installation() -> Path:
    """Where the build of these pins for this platform is, or will be."""
    lines = (MODULE / "go.mod").read_text().splitlines()
    pins = "\n".join(line for line in lines if not line.startswith("//"))  # a comment is no reason to build anew
    digest = hashlib.sha256()
    for part in (pins.encode(), (MODULE / "go.sum").read_bytes(), link_flags().encode()):
        digest.update(part)
        digest.update(b"\0")
    system, machine = platform.system().lower(), platform.machine().lower()
    return cache_root() / f"{digest.hexdigest()[:16]}-{system}-{GO_ARCHITECTURE.get(machine, machine)}"


def binaries() -> Mapping[str, Path]:
    """Name → path of every binary; raises MissingBinariesError where they are not built."""
    directory = installation()
    if not directory.is_dir():
        raise MissingBinariesError(
            f"the test bed's binaries are not in {directory}; build them with `python -m tests.testbed.build`"
        )
    return MappingProxyType({name: directory / "bin" / name for name in BINARIES})


def wire_directory() -> Path:
    """Where the wire sources are, or will be: `<module>@<version>` folders, as in a Go module cache."""
    return cache_root() / f"wire-{pinned(WIRE_MODULES[0])}"


def wire_sources() -> Path:
    """The folder of the wire sources; raises MissingBinariesError where they were not fetched."""
    directory = wire_directory()
    if not directory.is_dir():
        raise MissingBinariesError(
            f"Kubernetes' protobuf sources are not in {directory}; fetch them with `python -m tests.testbed.build`"
        )
    return directory


def stages() -> list[Path]:
    """kwok's stage files, in the order in which they are passed."""
    return [installation() / "stages" / Path(stage).name for stage in STAGES]
