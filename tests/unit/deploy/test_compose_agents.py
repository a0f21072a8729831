"""What agents of the compose file need to read kubeconfigs, on a root file system that is read-only."""

from __future__ import annotations

from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[3]
TEMPORARY = "/tmp"  # noqa: S108 - in a container


def test_who_joins_clusters_can_put_their_certificates_into_files() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    agents = {
        name: service
        for name, service in services.items()
        if any("WATCHER_KUBECONFIG" in key or "EXECUTOR_KUBECONFIG" in key for key in service.get("environment") or {})
    }
    assert {"watcher", "executor", "watcher-k3s-1", "executor-k3s-3"} <= agents.keys()
    stuck = [name for name, service in agents.items() if service["read_only"] and TEMPORARY not in service["tmpfs"]]
    assert stuck == []
