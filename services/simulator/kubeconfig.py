"""Kubeconfig files: written whole or not at all, so that an agent never reads half of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from shared.adapters.files import write_whole


def kubeconfig(name: str, server: str, token: str | None, ca_data: str | None = None) -> dict[str, Any]:
    """The document. Without a token the user is empty, which kubectl and the client libraries accept."""
    cluster: dict[str, Any] = {"server": server}
    if ca_data:
        cluster["certificate-authority-data"] = ca_data
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": {"token": token} if token else {}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": "default"}}],
        "current-context": name,
        "preferences": {},
    }


def path_for(directory: Path, name: str) -> Path:
    return directory / f"{name}.kubeconfig"


def write_kubeconfig(directory: Path, name: str, document: dict[str, Any]) -> Path:
    """Writes `<name>.kubeconfig`; readable by its owner only, as it may hold a token."""
    target = path_for(directory, name)
    write_whole(target, yaml.safe_dump(document, sort_keys=False))
    return target


def remove_kubeconfig(directory: Path, name: str) -> None:
    path_for(directory, name).unlink(missing_ok=True)
