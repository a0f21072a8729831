"""Everything else that has columns of its own."""

from __future__ import annotations

from typing import Any

from services.simulator.core.durations import age
from services.simulator.core.meta import Json
from services.simulator.core.printers.base import (
    NONE,
    UNSET,
    Printer,
    age_of,
    map_cell,
    name_of,
    selector_cell,
    spec_of,
    status_of,
)


def _namespace(obj: Json, now: float) -> list[Any]:
    return [name_of(obj), status_of(obj).get("phase", ""), age_of(obj, now)]


def _service_ports(spec: Json) -> str:
    shown = []
    for port in spec.get("ports") or ():
        node_port = f":{port['nodePort']}" if port.get("nodePort") else ""
        shown.append(f"{port['port']}{node_port}/{port.get('protocol', 'TCP')}")
    return ",".join(shown) or NONE


def _service(obj: Json, now: float) -> list[Any]:
    spec = spec_of(obj)
    kind = spec.get("type", "ClusterIP")
    ingress = (status_of(obj).get("loadBalancer") or {}).get("ingress") or ()
    external = ",".join(entry.get("ip") or entry.get("hostname", "") for entry in ingress)
    if not external:
        external = ",".join(spec.get("externalIPs") or ()) or spec.get("externalName", "")
    if not external:
        external = "<pending>" if kind == "LoadBalancer" else NONE
    return [
        name_of(obj),
        kind,
        spec.get("clusterIP") or NONE,
        external,
        _service_ports(spec),
        age_of(obj, now),
        map_cell(spec.get("selector")),
    ]


def _config_map(obj: Json, now: float) -> list[Any]:
    return [name_of(obj), len(obj.get("data") or ()) + len(obj.get("binaryData") or ()), age_of(obj, now)]


def _secret(obj: Json, now: float) -> list[Any]:
    return [name_of(obj), obj.get("type", ""), len(obj.get("data") or ()), age_of(obj, now)]


def _service_account(obj: Json, now: float) -> list[Any]:
    return [name_of(obj), len(obj.get("secrets") or ()), age_of(obj, now)]


def _event(obj: Json, now: float) -> list[Any]:
    involved = obj.get("involvedObject") or obj.get("regarding") or {}
    first, last = obj.get("firstTimestamp") or obj.get("eventTime"), obj.get("lastTimestamp") or obj.get("eventTime")
    source = obj.get("source") or {}
    return [
        age(last, now),
        obj.get("type", ""),
        obj.get("reason", ""),
        f"{str(involved.get('kind', '')).lower()}/{involved.get('name', '')}",
        involved.get("fieldPath", ""),
        ", ".join(filter(None, (source.get("component") or obj.get("reportingComponent"), source.get("host")))),
        str(obj.get("message") or obj.get("note", "")).strip(),
        age(first, now),
        obj.get("count", 1),
        name_of(obj),
    ]


def _claim(obj: Json, now: float) -> list[Any]:
    spec, status = spec_of(obj), status_of(obj)
    return [
        name_of(obj),
        status.get("phase", ""),
        spec.get("volumeName", ""),
        (status.get("capacity") or {}).get("storage", ""),
        _modes(status.get("accessModes")),
        spec.get("storageClassName", ""),
        spec.get("volumeAttributesClassName", UNSET),
        age_of(obj, now),
        spec.get("volumeMode", ""),
    ]


_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}


def _modes(modes: list[str] | None) -> str:
    return ",".join(_MODES.get(mode, mode) for mode in modes or ())


def _volume(obj: Json, now: float) -> list[Any]:
    spec, status = spec_of(obj), status_of(obj)
    claim = spec.get("claimRef")
    return [
        name_of(obj),
        (spec.get("capacity") or {}).get("storage", ""),
        _modes(spec.get("accessModes")),
        spec.get("persistentVolumeReclaimPolicy", ""),
        status.get("phase", ""),
        f"{claim.get('namespace')}/{claim.get('name')}" if claim else "",
        spec.get("storageClassName", ""),
        spec.get("volumeAttributesClassName", UNSET),
        status.get("reason", ""),
        age_of(obj, now),
        spec.get("volumeMode", ""),
    ]


def _endpoints(obj: Json, now: float) -> list[Any]:
    shown = [
        f"{address['ip']}:{port['port']}"
        for subset in obj.get("subsets") or ()
        for port in subset.get("ports") or ()
        for address in subset.get("addresses") or ()
    ]
    more = f" + {len(shown) - 3} more..." if len(shown) > 3 else ""  # noqa: PLR2004  # as kubectl does
    return [name_of(obj), ",".join(shown[:3]) + more or NONE, age_of(obj, now)]


def _lease(obj: Json, now: float) -> list[Any]:
    return [name_of(obj), spec_of(obj).get("holderIdentity", ""), age_of(obj, now)]


def _created_at(obj: Json, now: float) -> list[Any]:
    del now
    return [name_of(obj), obj["metadata"].get("creationTimestamp", "")]


def _binding(obj: Json, now: float) -> list[Any]:
    role = obj.get("roleRef") or {}
    subjects = obj.get("subjects") or ()

    def named(kind: str) -> str:
        return ", ".join(entry["name"] for entry in subjects if entry.get("kind") == kind)

    accounts = ", ".join(
        f"{entry.get('namespace', '')}/{entry['name']}" for entry in subjects if entry.get("kind") == "ServiceAccount"
    )
    return [
        name_of(obj),
        f"{role.get('kind')}/{role.get('name')}",
        age_of(obj, now),
        named("User"),
        named("Group"),
        accounts,
    ]


def _storage_class(obj: Json, now: float) -> list[Any]:
    return [
        name_of(obj),
        obj.get("provisioner", ""),
        obj.get("reclaimPolicy", "Delete"),
        obj.get("volumeBindingMode", "Immediate"),
        str(bool(obj.get("allowVolumeExpansion"))).lower(),
        age_of(obj, now),
    ]


def _priority_class(obj: Json, now: float) -> list[Any]:
    return [
        name_of(obj),
        obj.get("value", 0),
        str(bool(obj.get("globalDefault"))).lower(),
        age_of(obj, now),
        obj.get("preemptionPolicy", "PreemptLowerPriority"),
    ]


def _webhook_configuration(obj: Json, now: float) -> list[Any]:
    return [name_of(obj), len(obj.get("webhooks") or ()), age_of(obj, now)]


def _network_policy(obj: Json, now: float) -> list[Any]:
    return [name_of(obj), selector_cell({"spec": {"selector": spec_of(obj).get("podSelector")}}), age_of(obj, now)]


def _ingress(obj: Json, now: float) -> list[Any]:
    spec = spec_of(obj)
    hosts = ",".join(rule.get("host") or "*" for rule in spec.get("rules") or ()) or "*"
    ports = "80, 443" if spec.get("tls") else "80"
    return [name_of(obj), spec.get("ingressClassName") or NONE, hosts, "", ports, age_of(obj, now)]


_BINDING = Printer(("Name", "Role", "Age", "+Users", "+Groups", "+ServiceAccounts"), _binding)
_CREATED = Printer(("Name", "Created At"), _created_at)
_HOOKS = Printer(("Name", "#Webhooks", "Age"), _webhook_configuration)
_EVENT = Printer(
    (
        "Last Seen",
        "Type",
        "Reason",
        "Object",
        "+Subobject",
        "+Source",
        "Message",
        "+First Seen",
        "+Count",
        "+Name",
    ),
    _event,
)
_RBAC = "rbac.authorization.k8s.io"
_ADMISSION = "admissionregistration.k8s.io"

CONFIG_PRINTERS = {
    "namespaces": Printer(("Name", "Status", "Age"), _namespace),
    "services": Printer(("Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age", "+Selector"), _service),
    "configmaps": Printer(("Name", "Data", "Age"), _config_map),
    "secrets": Printer(("Name", "Type", "Data", "Age"), _secret),
    "serviceaccounts": Printer(("Name", "Secrets", "Age"), _service_account),
    "events": _EVENT,
    "events.events.k8s.io": _EVENT,
    "persistentvolumeclaims": Printer(
        (
            "Name",
            "Status",
            "Volume",
            "Capacity",
            "Access Modes",
            "StorageClass",
            "VolumeAttributesClass",
            "Age",
            "+VolumeMode",
        ),
        _claim,
    ),
    "persistentvolumes": Printer(
        (
            "Name",
            "Capacity",
            "Access Modes",
            "Reclaim Policy",
            "Status",
            "Claim",
            "StorageClass",
            "VolumeAttributesClass",
            "Reason",
            "Age",
            "+VolumeMode",
        ),
        _volume,
    ),
    "endpoints": Printer(("Name", "Endpoints", "Age"), _endpoints),
    "leases.coordination.k8s.io": Printer(("Name", "Holder", "Age"), _lease),
    "customresourcedefinitions.apiextensions.k8s.io": _CREATED,
    f"roles.{_RBAC}": _CREATED,
    f"clusterroles.{_RBAC}": _CREATED,
    f"rolebindings.{_RBAC}": _BINDING,
    f"clusterrolebindings.{_RBAC}": _BINDING,
    "storageclasses.storage.k8s.io": Printer(
        ("Name", "Provisioner", "ReclaimPolicy", "VolumeBindingMode", "AllowVolumeExpansion", "Age"), _storage_class
    ),
    "priorityclasses.scheduling.k8s.io": Printer(
        ("Name", "#Value", "Global-Default", "Age", "PreemptionPolicy"), _priority_class
    ),
    f"validatingwebhookconfigurations.{_ADMISSION}": _HOOKS,
    f"mutatingwebhookconfigurations.{_ADMISSION}": _HOOKS,
    "networkpolicies.networking.k8s.io": Printer(("Name", "Pod-Selector", "Age"), _network_policy),
    "ingresses.networking.k8s.io": Printer(("Name", "Class", "Hosts", "Address", "Ports", "Age"), _ingress),
}
