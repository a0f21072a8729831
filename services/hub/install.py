"""What the hub cluster needs before anything is bridged: the custom resources, and the admission webhook.

Both by server-side apply, so that an update of the hub updates them and nothing that others set on them is lost.
"""

from __future__ import annotations

import base64

from services.hub.crds import Crd, crds
from services.hub.decision.resources import GROUP, VERSION
from services.hub.decision.views import HUB_MANAGER
from shared.model.identities import Resource
from shared.observability.logs import get_logger
from shared.ports.clock import Clock
from shared.ports.cluster_api import ApiError, ApplyOptions, ClusterApi, Object

log = get_logger(__name__)

DEFINITIONS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions")
WEBHOOKS = Resource("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations")
WEBHOOK_NAME = f"flotilla-hub.{GROUP}"

_OPTIONS = ApplyOptions(manager=HUB_MANAGER)
_ESTABLISHED_S = 30.0
_POLL_S = 0.1
_NOT_FOUND = 404


async def install_crds(api: ClusterApi, clock: Clock) -> None:
    """Applies the definitions and waits until the server serves them. Raises ApiError."""
    for crd in crds():
        await api.apply(DEFINITIONS, "", crd["metadata"]["name"], crd, _OPTIONS)
    deadline = clock.monotonic() + _ESTABLISHED_S
    for crd in crds():
        await _until_served(api, crd, clock, deadline)
    log.info("custom resources are served", group=GROUP, version=VERSION)


async def _until_served(api: ClusterApi, crd: Crd, clock: Clock, deadline: float) -> None:
    name = crd["metadata"]["name"]
    while True:
        present = await api.get(DEFINITIONS, "", name)
        if _is_established(present):
            return
        if clock.monotonic() > deadline:
            conditions = (present.get("status") or {}).get("conditions")
            raise ApiError(0, "Timeout", f"{name} is not established: {conditions}")
        await clock.sleep(_POLL_S)


def _is_established(crd: Object) -> bool:
    conditions = (crd.get("status") or {}).get("conditions") or ()
    return any(item.get("type") == "Established" and item.get("status") == "True" for item in conditions)


async def register_webhook(api: ClusterApi, url: str, authority: bytes, failure_policy: str) -> bool:
    """Points the API server at `/admit`. False if it knows no webhooks, as a simulated one may not.

    Raises:
        ApiError: it knows them and refused.
    """
    try:
        await api.apply(WEBHOOKS, "", WEBHOOK_NAME, _configuration(url, authority, failure_policy), _OPTIONS)
    except ApiError as error:
        if error.code != _NOT_FOUND:
            raise
        log.warning("this API server has no admission webhooks: objects are checked when they are bridged")
        return False
    log.info("webhook registered", url=url, failure_policy=failure_policy)
    return True


def _configuration(url: str, authority: bytes, failure_policy: str) -> Object:
    return {
        "apiVersion": WEBHOOKS.api_version,
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": WEBHOOK_NAME},
        "webhooks": [
            {
                "name": f"admit.{GROUP}",
                "admissionReviewVersions": ["v1"],
                "clientConfig": {"url": url, "caBundle": base64.b64encode(authority).decode()},
                "rules": [
                    {
                        "apiGroups": [GROUP],
                        "apiVersions": [VERSION],
                        "operations": ["CREATE", "UPDATE"],
                        "resources": ["clusters", "workloads"],
                        "scope": "*",
                    }
                ],
                "failurePolicy": failure_policy,
                "matchPolicy": "Equivalent",
                # Refusals are audited, but not those of dry runs.
                "sideEffects": "NoneOnDryRun",
                "timeoutSeconds": 5,
            }
        ],
    }
