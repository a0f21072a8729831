"""What agents are given of a kubeconfig that a management cluster has, and who may read it."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.adapters.provisioning import KubeconfigFolder
from shared.adapters.provisioning.kubeconfigs import inline
from shared.model.provisioning import BAD_KUBECONFIG
from shared.ports.provisioning import KubeconfigError

OWNER = "uid-1"
SECRET = "s3cr3t-of-the-cluster"


def document(user: dict[str, Any] | None = None, **cluster: Any) -> bytes:
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "admin@west",
            "contexts": [
                {"name": "other", "context": {"cluster": "nowhere", "user": "nobody"}},
                {"name": "admin@west", "context": {"cluster": "west", "user": "admin"}},
            ],
            "clusters": [{"name": "west", "cluster": {"server": "https://west:6443", **cluster}}],
            "users": [{"name": "admin", "user": user if user is not None else {"token": SECRET}}],
        }
    ).encode()


def test_the_current_context_is_what_agents_get() -> None:
    found = inline("west", document({"client-certificate-data": "Yw==", "client-key-data": "aw=="}))
    assert found["current-context"] == "west"
    assert found["clusters"] == [{"name": "west", "cluster": {"server": "https://west:6443"}}]
    assert found["users"] == [{"name": "west", "user": {"client-certificate-data": "Yw==", "client-key-data": "aw=="}}]
    assert len(found["contexts"]) == 1


@pytest.mark.parametrize(
    ("user", "cluster"),
    [
        ({"exec": {"command": "/bin/sh"}}, {}),
        ({"auth-provider": {"name": "gcp"}}, {}),
        ({"tokenFile": "/etc/passwd"}, {}),
        ({"client-key": "/flotilla/kafka-certificate/tls.key"}, {}),
        ({"as": "system:admin", "token": SECRET}, {}),
        ({}, {"certificate-authority": "/etc/passwd"}),
    ],
)
def test_nothing_that_agents_would_run_or_read(user: dict[str, Any], cluster: dict[str, Any]) -> None:
    with pytest.raises(KubeconfigError, match="agents are not given") as refused:
        inline("west", document(user, **cluster))
    assert refused.value.reason == BAD_KUBECONFIG


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"\xff\xfe",
        f"token: {SECRET}\n\t- {{".encode(),
        f"[{SECRET}]".encode(),
        document().replace(b"admin@west", b"gone", 1),
        document(server=None),
        b"current-context: a\ncontexts: [1]",
    ],
)
def test_what_is_no_kubeconfig_is_refused_without_quoting_it(wrong: bytes) -> None:
    with pytest.raises(KubeconfigError) as refused:
        inline("west", wrong)
    assert refused.value.reason == BAD_KUBECONFIG
    assert SECRET not in str(refused.value)
    assert refused.value.__cause__ is None


def names(directory: Path) -> list[str]:
    return [item.name for item in directory.iterdir()]


async def test_a_file_is_its_owners_alone_and_whole(tmp_path: Path) -> None:
    """What else a store has to do is in tests/contract/provisioning/test_kubeconfig_stores.py."""
    folder, path = KubeconfigFolder(tmp_path), tmp_path / "west.kubeconfig"
    assert await folder.write("west", OWNER, document())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert yaml.safe_load(path.read_text())["users"][0]["user"] == {"token": SECRET}
    assert await folder.write("west", OWNER, document({"token": "rotated"}))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names(tmp_path) == ["west.kubeconfig"]
