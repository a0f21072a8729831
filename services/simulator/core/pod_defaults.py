"""The defaults of pod specs and templates, filled in place into the caller's own copy.

Source: k8s.io/kubernetes/pkg/apis/core/v1/defaults.go and the ServiceAccount, DefaultTolerationSeconds and Priority
admission plugins.
"""

from __future__ import annotations

from typing import Any

from services.simulator.core.meta import Json

_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_MODE = 0o644
_NOT_READY_SECONDS = 300
_MODED = ("configMap", "secret", "downwardAPI", "projected")


def pull_policy(image: str) -> str:
    """`Always` for the tag latest or none, as kubelets do."""
    name = image.partition("@")[0].rpartition("/")[2]
    tag = name.partition(":")[2]
    return "Always" if tag in {"", "latest"} and "@" not in image else "IfNotPresent"


def _default_probe(probe: Json) -> None:
    probe.setdefault("timeoutSeconds", 1)
    probe.setdefault("periodSeconds", 10)
    probe.setdefault("successThreshold", 1)
    probe.setdefault("failureThreshold", 3)
    if isinstance(get := probe.get("httpGet"), dict):
        get.setdefault("path", "/")
        get.setdefault("scheme", "HTTP")


def _default_container(container: Json) -> None:
    if image := container.get("image"):
        container.setdefault("imagePullPolicy", pull_policy(image))
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    container.setdefault("resources", {})
    for port in container.get("ports") or ():
        port.setdefault("protocol", "TCP")
    for name in _PROBES:
        if isinstance(probe := container.get(name), dict):
            _default_probe(probe)
    for variable in container.get("env") or ():
        if isinstance(source := variable.get("valueFrom"), dict) and "fieldRef" in source:
            source["fieldRef"].setdefault("apiVersion", "v1")


def _default_volume(volume: Json) -> None:
    if len(volume) == 1:
        volume["emptyDir"] = {}
    for name in _MODED:
        if isinstance(source := volume.get(name), dict):
            source.setdefault("defaultMode", _MODE)


def default_pod_spec(spec: Json) -> None:
    """The defaults that templates and pods share."""
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("securityContext", {})
    spec.setdefault("schedulerName", "default-scheduler")
    if "serviceAccountName" in spec:
        spec.setdefault("serviceAccount", spec["serviceAccountName"])
    elif "serviceAccount" in spec:
        spec["serviceAccountName"] = spec["serviceAccount"]
    for name in ("containers", "initContainers", "ephemeralContainers"):
        for container in spec.get(name) or ():
            _default_container(container)
            if spec.get("hostNetwork"):
                for port in container.get("ports") or ():
                    port.setdefault("hostPort", port.get("containerPort"))
    for volume in spec.get("volumes") or ():
        _default_volume(volume)


def _toleration(key: str) -> Json:
    return {
        "key": f"node.kubernetes.io/{key}",
        "operator": "Exists",
        "effect": "NoExecute",
        "tolerationSeconds": _NOT_READY_SECONDS,
    }


def _tolerates(tolerations: list[Json], key: str) -> bool:
    return any(
        entry.get("key") in (None, "", f"node.kubernetes.io/{key}") and entry.get("effect") in (None, "", "NoExecute")
        for entry in tolerations
    )


def admit_pod(pod: Json) -> Json:
    """What admission adds to a pod but not to a template. The result shares nothing mutable with a template."""
    spec: dict[str, Any] = dict(pod["spec"])
    spec.setdefault("serviceAccountName", "default")
    spec.setdefault("serviceAccount", spec["serviceAccountName"])
    spec.setdefault("enableServiceLinks", True)
    spec.setdefault("priority", 0)
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
    tolerations = list(spec.get("tolerations") or ())
    tolerations += [_toleration(key) for key in ("not-ready", "unreachable") if not _tolerates(tolerations, key)]
    spec["tolerations"] = tolerations
    spec["containers"] = [_default_requests(container) for container in spec["containers"]]
    return {**pod, "spec": spec, "status": {"phase": "Pending", "qosClass": qos_class(spec)}}


def _default_requests(container: Json) -> Json:
    limits = container.get("resources", {}).get("limits")
    if not limits:
        return container
    resources = container["resources"]
    return {**container, "resources": {**resources, "requests": {**limits, **(resources.get("requests") or {})}}}


def qos_class(spec: Json) -> str:
    """Guaranteed, Burstable or BestEffort, from cpu and memory alone."""
    guaranteed, any_set = True, False
    for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
        requests = container.get("resources", {}).get("requests") or {}
        limits = container.get("resources", {}).get("limits") or {}
        any_set = any_set or bool({"cpu", "memory"} & (requests.keys() | limits.keys()))
        for name in ("cpu", "memory"):
            if name not in limits or requests.get(name, limits[name]) != limits[name]:
                guaranteed = False
    if not any_set:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"
