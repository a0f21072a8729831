"""The clusters of an agent: one, or those whose kubeconfigs a directory holds."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from structlog.testing import LogCapture

from shared.adapters.kubernetes import KubernetesApi, ListWatchPolicy
from shared.runtime import clusters
from shared.runtime.clusters import Connect, KubeconfigDirectory, OneCluster, cluster_source
from tests.testbed.secret_volume import SecretVolume


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the module logs: its own logger, so that no other test's configuration matters."""
    capture = LogCapture()
    logger = clusters.log.bind()
    monkeypatch.setattr(logger, "_processors", [capture])
    monkeypatch.setattr(clusters, "log", logger)
    return capture.entries


def write(directory: Path, *names: str) -> None:
    for name in names:
        (directory / name).write_text("x")


async def test_files_of_a_directory_are_clusters(tmp_path: Path) -> None:
    write(tmp_path, "west.yaml", "east.kubeconfig", "north", "south.json", ".hidden.yaml", "half.yaml.tmp")
    (tmp_path / "hubs").mkdir()
    source = KubeconfigDirectory(tmp_path)
    assert set(await source.scan()) == {"west", "east", "north", "south"}

    (tmp_path / "west.yaml").unlink()
    assert "west" in await source.scan()  # it may be about to be rewritten
    await source.scan()
    assert set(await source.scan()) == {"east", "north", "south"}
    write(tmp_path, "west.yaml")
    assert "west" in await source.scan()


def keys(*names: str, content: bytes = b"x") -> dict[str, bytes]:
    return {f"{name}.kubeconfig": content for name in names}


async def test_keys_of_a_secret_that_is_mounted_are_clusters(tmp_path: Path, logged: list[Any]) -> None:
    volume, source = SecretVolume(tmp_path), KubeconfigDirectory(tmp_path)
    assert await source.scan() == {}
    for payload in (keys(), keys("west"), keys("west", "east")):
        volume.write(payload)
        assert {f"{name}.kubeconfig" for name in await source.scan()} == payload.keys()
    volume.write(keys("east"))
    assert not (tmp_path / "west.kubeconfig").is_symlink()
    for expected in ({"east", "west"}, {"east", "west"}, {"east"}):
        assert set(await source.scan()) == expected
    assert logged == [], "of the links and folders beside the keys there is nothing to say"


async def test_no_cluster_is_lost_while_a_volume_is_swapped(tmp_path: Path) -> None:
    """Again and again by another thread, as fast as it can, with a key that comes and goes."""
    volume, source, stop = SecretVolume(tmp_path), KubeconfigDirectory(tmp_path), threading.Event()
    volume.write(keys("west", "east"))
    swaps = 0

    def swap() -> None:
        nonlocal swaps
        while not stop.is_set():
            swaps += 1
            more = keys("south") if swaps % 2 else {}
            volume.write(keys("west", "east", content=str(swaps).encode()) | more)

    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.to_thread(swap))
        try:
            while swaps < 500:
                assert {"west", "east"} <= set(await source.scan()) <= {"west", "east", "south"}
        finally:
            stop.set()


async def test_a_directory_that_cannot_be_read_loses_no_cluster(tmp_path: Path) -> None:
    directory = tmp_path / "clusters"
    source = KubeconfigDirectory(directory)
    assert await source.scan() == {}
    directory.mkdir()
    write(directory, "west.yaml")
    assert set(await source.scan()) == {"west"}
    directory.rename(tmp_path / "elsewhere")
    for _ in range(5):
        assert set(await source.scan()) == {"west"}


@pytest.mark.parametrize(
    ("file", "rule"),
    [
        # A DNS subdomain, as Kubernetes allows for most names, but not for what the hub calls a Cluster.
        ("eu.west.yaml", "must consist of lower case letters, digits or '-'"),
        ("Not_a_name.yaml", "must consist of lower case letters, digits or '-'"),
        (f"{'a' * 64}.yaml", "must be no more than 63 characters"),
    ],
)
async def test_a_file_whose_name_is_no_dns_label_is_refused_alone(
    tmp_path: Path, logged: list[Any], file: str, rule: str
) -> None:
    write(tmp_path, file, "east.yaml")
    source = KubeconfigDirectory(tmp_path)
    for _ in range(3):
        assert set(await source.scan()) == {"east"}
    assert len(logged) == 1, "once for each file, not at every look"
    assert (logged[0]["log_level"], logged[0]["file"]) == ("warning", file)
    assert rule in logged[0]["error"]


async def test_the_longest_label_is_a_name(tmp_path: Path) -> None:
    write(tmp_path, f"{'a' * 63}.yaml")
    assert set(await KubeconfigDirectory(tmp_path).scan()) == {"a" * 63}


async def test_of_two_files_with_one_name_the_first_is_used(tmp_path: Path, logged: list[Any]) -> None:
    write(tmp_path, "west.yaml", "west.kubeconfig")
    assert set(await KubeconfigDirectory(tmp_path).scan()) == {"west"}
    assert [(entry["file"], entry["error"]) for entry in logged] == [("west.yaml", "west.kubeconfig is used")]


async def connected(connect: Connect) -> KubernetesApi:
    api = await connect()
    assert isinstance(api, KubernetesApi)
    await api.close()
    return api


async def test_settings_name_one_cluster_or_a_directory_and_how_to_talk_to_them(tmp_path: Path) -> None:
    config = tmp_path / "west.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "c",
                "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
                "contexts": [{"name": "c", "context": {"cluster": "c"}}],
            }
        )
    )
    policy = ListWatchPolicy(without_managed_fields=True)
    one = cluster_source("east", config, None, deadline_s=7, policy=policy)
    many = cluster_source("", None, tmp_path, deadline_s=7, policy=policy)
    assert isinstance(one, OneCluster)
    found = {**await one.scan(), **await many.scan()}
    assert set(found) == {"east", "west"}
    for connect in found.values():
        api = await connected(connect)
        assert (api.server, api._deadline_s, api._policy) == ("http://127.0.0.1:1", 7, policy)
