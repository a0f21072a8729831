"""Kubeconfigs as agents get them of clusters that were made, and the directory in which they find them.

What is written is no copy: an address and credentials that stand in the document itself, and nothing that would make
the agents run a program or read a file of theirs. Its first line says for which Cluster it was written: another's is
never replaced or removed. A file is written whole or not at all, and is readable by its owner only.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

import yaml

from shared.adapters.files import write_whole
from shared.model.provisioning import BAD_KUBECONFIG, NAME_CONFLICT
from shared.ports.provisioning import KubeconfigError

Json = dict[str, Any]

_MARK: Final = "# Written by the hub for the Cluster of uid "
_CLUSTER: Final = ("server", "certificate-authority-data", "tls-server-name", "proxy-url", "insecure-skip-tls-verify")
_USER: Final = ("client-certificate-data", "client-key-data", "token")
# Of the agents' side: programs that they would run, files that they would read, whom they would play.
_REFUSED: Final = (
    "exec",
    "auth-provider",
    "tokenFile",
    "client-certificate",
    "client-key",
    "certificate-authority",
    "as",
    "as-groups",
)


class KubeconfigFolder:
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def write(self, name: str, owner: str, document: bytes) -> bool:
        """Whether the file changed. Raises KubeconfigError, OSError."""
        return await asyncio.to_thread(self._write, file_name(name), owner, marked(name, owner, document))

    async def remove(self, name: str, owner: str) -> bool:
        """Whether there was one of this Cluster. Raises OSError."""
        return await asyncio.to_thread(self._remove, file_name(name), owner)

    def _write(self, file: str, owner: str, text: str) -> bool:
        present = self._read(file)
        check_owner(f"{file} in the agents' directory", present, owner)
        if present == text:
            return False
        write_whole(self._directory / file, text)
        return True

    def _remove(self, file: str, owner: str) -> bool:
        if not is_of(self._read(file), owner):
            return False
        (self._directory / file).unlink(missing_ok=True)
        return True

    def _read(self, file: str) -> str | None:
        try:
            return (self._directory / file).read_text(errors="replace")
        except FileNotFoundError:
            return None


def file_name(cluster: str) -> str:
    """By which agents know whose kubeconfig it is."""
    return f"{cluster}.kubeconfig"


def marked(name: str, owner: str, document: bytes) -> str:
    """What agents get of a kubeconfig, with the mark of the Cluster that it is for. Raises KubeconfigError."""
    return f"{_mark(owner)}\n{yaml.safe_dump(inline(name, document), sort_keys=False)}"


def is_of(text: str | None, owner: str) -> bool:
    return text is not None and text.startswith(_mark(owner))


def check_owner(what: str, text: str | None, owner: str) -> None:
    """Raises KubeconfigError where there is something that is another's."""
    if text is not None and not is_of(text, owner):
        raise KubeconfigError(NAME_CONFLICT, f"{what} is there already and was not written for this Cluster")


def _mark(owner: str) -> str:
    return f"{_MARK}{owner}; changes are lost."


def inline(name: str, document: bytes) -> Json:
    """The current context of a kubeconfig, as a kubeconfig of its own. Raises KubeconfigError."""
    try:
        found = yaml.safe_load(document)
        context = _entry(found, "contexts", "context", found["current-context"])
        cluster = _entry(found, "clusters", "cluster", context["cluster"])
        user = _entry(found, "users", "user", context["user"])
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError, StopIteration):
        # Without the cause: its text may quote the document.
        raise KubeconfigError(BAD_KUBECONFIG, "it is no kubeconfig with a current context") from None
    if refused := sorted({*cluster, *user}.intersection(_REFUSED)):
        raise KubeconfigError(BAD_KUBECONFIG, f"it has {', '.join(refused)}, which agents are not given")
    if not isinstance(cluster.get("server"), str):
        raise KubeconfigError(BAD_KUBECONFIG, "it names no server")
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {key: cluster[key] for key in _CLUSTER if key in cluster}}],
        "users": [{"name": name, "user": {key: user[key] for key in _USER if key in user}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }


def _entry(document: Any, plural: str, singular: str, name: str) -> Json:
    found = next(item for item in document[plural] if item["name"] == name)[singular]
    return dict(found or {})
