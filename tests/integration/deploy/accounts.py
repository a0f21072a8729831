"""Service accounts on a real cluster, kubeconfigs that are them, and what the API server noted of their requests."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tests.testbed.cluster import RealCluster

NAMESPACE: Final = "flotilla-agents"
HUB_NAMESPACE: Final = "flotilla-system"
_CREATED: Final = 201
_REFUSED: Final = 403
_CREDENTIAL: Final = "authentication.kubernetes.io/credential-id"

Json = dict[str, Any]
Grant = tuple[str, str, str]  # group, resource or resource/subresource, verb


def audit_flags(directory: Path) -> tuple[str, ...]:
    """kube-apiserver's flags by which it notes, in `audit.log`, who was answered what: the accounts' requests alone."""
    policy = {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "Metadata", "userGroups": [f"system:serviceaccounts:{n}" for n in (NAMESPACE, HUB_NAMESPACE)]},
            {"level": "None"},
        ],
    }
    file = directory / "audit-policy.yaml"
    file.write_text(yaml.safe_dump(policy))
    return (f"--audit-policy-file={file}", f"--audit-log-path={directory / 'audit.log'}", "--audit-log-mode=blocking")


@dataclass(frozen=True, slots=True)
class Noted:
    """One request of an account, as the API server saw it. `code` is 0 while it is being answered."""

    account: str
    group: str
    resource: str
    verb: str
    code: int
    namespace: str
    name: str
    # Which of the account's tokens it was.
    token_id: str

    @property
    def refused(self) -> bool:
        return self.code == _REFUSED

    def used(self) -> Iterator[Grant]:
        """The permissions that it took: an apply that made an object was asked for `create` beside `patch`."""
        yield self.group, self.resource, self.verb
        if self.verb == "patch" and self.code == _CREATED:
            yield self.group, self.resource, "create"


def noted(directory: Path) -> list[Noted]:
    """All requests for resources up to now, in the order of their answers."""
    file = directory / "audit.log"
    lines = file.read_text().splitlines() if file.exists() else []
    found = (_read(json.loads(line)) for line in lines if line.endswith("}"))
    return [entry for entry in found if entry is not None]


def _read(event: Json) -> Noted | None:
    about = event.get("objectRef")
    if about is None or "resource" not in about:
        return None  # discovery, /version
    subresource = f"/{about['subresource']}" if "subresource" in about else ""
    return Noted(
        account=event["user"]["username"].rpartition(":")[2],
        group=about.get("apiGroup", ""),
        resource=about["resource"] + subresource,
        verb=event["verb"],
        code=event.get("responseStatus", {}).get("code", 0),
        namespace=about.get("namespace", ""),
        name=about.get("name", ""),
        token_id=event["user"].get("extra", {}).get(_CREDENTIAL, [""])[0].removeprefix("JTI="),
    )


async def token_of(cluster: RealCluster, namespace: str, account: str, bound_to: str = "") -> str:
    """A token as a kubelet would mount it, for an hour; with a Secret's name it ends when that Secret does."""
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
    spec: Json = {"expirationSeconds": 3600}
    if bound_to:
        spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Secret", "name": bound_to}
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    return str((await cluster.api.call("POST", path, request))["status"]["token"])


def token_id(token: str) -> str:
    """What the API server notes of requests by this token."""
    body = token.split(".")[1]
    return str(json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))["jti"])


def write_token_kubeconfig(cluster: RealCluster, token: str, path: Path) -> None:
    """The administrator's kubeconfig, with the token instead of the certificate."""
    document = yaml.safe_load(cluster.kubeconfig.read_text())
    document["users"][0]["user"] = {"token": token}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(document))
