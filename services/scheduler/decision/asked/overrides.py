"""What is different in some clusters: overrides of a workload's terms, resolved and applied. Pure.

Which overrides apply in a cluster depends on its labels, which the journal does not have. So that is resolved when a
share is decided, and its names stand in the decision (`ClusterShare.overrides`); applying them depends on the decision
alone. All of a pod set's overrides are tried when its workload is admitted, each by itself. Several may still fail to
apply together (one removes what the next replaces): a pod set goes to no cluster where its overrides do.

An override must not change what a placement went by: see `_facts`.

Sources: RFC 6902; the order within an override is that of Karmada's `pkg/util/overridemanager`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import jsonpatch
import jsonpointer
from pydantic import ValidationError

from services.scheduler.decision.asked.documents import document_error
from services.scheduler.decision.asked.manifests import Kind, template_in
from shared.events.v1.policies import Override, PatchOperation
from shared.events.v1.workloads import Manifest
from shared.model.identities import MANAGED_BY_LABEL, POD_SET_LABEL, WORKLOAD_LABEL, WORKLOAD_NAMESPACE_LABEL
from shared.model.pods import GPU_MILLI_ANNOTATION, PodSpec

_IDENTITY = (MANAGED_BY_LABEL, WORKLOAD_LABEL, WORKLOAD_NAMESPACE_LABEL, POD_SET_LABEL)
# Whatever may go wrong with a path in a document of any form.
_PATCH_ERRORS = (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException, LookupError, TypeError, ValueError)


class OverrideError(ValueError):
    """An override cannot be applied to an object. `field` is its part that is to blame, such as `patches.0.path`."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class ChangesFactsError(OverrideError):
    """It can be applied, and changes what the placement went by."""


class PodSetOverrides:
    """The overrides of one pod set, and the object that they change: as it is rendered for every cluster."""

    def __init__(self, overrides: Sequence[Override], rendered: Manifest, kind: Kind) -> None:
        self._overrides = overrides
        self._rendered = rendered
        self._kind = kind
        self._problems: dict[tuple[str, ...], OverrideError | None] = {}

    @property
    def by_labels(self) -> bool:
        """Whether what applies may change when a cluster's labels do."""
        return any(item.cluster_selector is not None for item in self._overrides)

    def names_for(self, cluster: str, labels: Mapping[str, str]) -> tuple[str, ...]:
        """Those that apply in a cluster, in their order."""
        return tuple(item.name for item in self._overrides if item.selects(cluster, labels))

    def still(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those of these names that there are, in their order."""
        wanted = set(names)
        return tuple(item.name for item in self._overrides if item.name in wanted)

    def problem(self, names: tuple[str, ...]) -> OverrideError | None:
        """Why these should not be applied together, if so."""
        if names not in self._problems:
            try:
                self._apply(names)
                self._problems[names] = None
            except OverrideError as error:
                self._problems[names] = error
        return self._problems[names]

    def _apply(self, names: tuple[str, ...]) -> None:
        changed = self._rendered
        for override in self._overrides:
            if override.name in names:
                try:
                    changed = apply_override(changed, override, self._kind)
                except OverrideError as error:
                    raise type(error)(f"{override.name}.{error.field}", str(error)) from error


def check_values(override: Override) -> None:
    """Raises OverrideError for a value that cannot travel."""
    for number, operation in enumerate(override.patches):
        if problem := document_error(operation.value):
            raise OverrideError(f"patches.{number}.value{problem[0]}", problem[1])


def apply_override(manifest: Manifest, override: Override, kind: Kind) -> Manifest:
    """A copy of the object, changed. Raises OverrideError."""
    changed = apply_unchecked(manifest, override, kind)
    for (name, former), (_, present) in zip(_facts(manifest, kind), _facts(changed, kind), strict=True):
        if former != present:
            raise ChangesFactsError("patches", f"an override must not change {name}")
    if problem := document_error(changed):
        raise OverrideError("patches", f"the object's {problem[0].removeprefix('.')} {problem[1]}")
    return changed


def apply_unchecked(manifest: Manifest, override: Override, kind: Kind) -> Manifest:
    """As `apply_override`, of what was decided: what counts as a fact may be more now than it was then."""
    changed: Manifest = deepcopy(manifest)
    template = template_in(changed, kind)
    if template is not None:
        _override_pods(template, override)
    for name, given in (("labels", override.labels), ("annotations", override.annotations)):
        for metadata in _metadata(changed, template) if given else ():
            metadata[name] = _mapping(metadata, name) | given
    if override.storage_class is not None:
        for claim in _claims(changed, template):
            claim["storageClassName"] = override.storage_class
    for index, operation in enumerate(override.patches):
        changed = _patched(changed, operation, f"patches.{index}")
    return changed


def with_registry(image: str, registry: str) -> str:
    """The image from another registry. A reference begins with one if that has a dot or a port, or is localhost."""
    first, slash, rest = image.partition("/")
    names_registry = bool(slash) and ("." in first or ":" in first or first == "localhost")
    return f"{registry}/{rest if names_registry else image}"


def _override_pods(template: dict[str, Any], override: Override) -> None:
    spec = template["spec"]
    if override.image_registry is not None:
        for container in (*(spec.get("initContainers") or ()), *spec["containers"]):
            container["image"] = with_registry(container["image"], override.image_registry)
    if override.command is None and override.args is None:
        return
    containers = (*spec["containers"], *(spec.get("initContainers") or ()))
    named = override.container
    chosen = next((item for item in containers if named in (None, item["name"])), None)
    if chosen is None:
        raise OverrideError("container", f"there is no container {named!r}")
    for name, given in (("command", override.command), ("args", override.args)):
        if given is not None:
            chosen[name] = list(given)


def _metadata(manifest: Manifest, template: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """Of the object, and of its pods where that is another."""
    for owner in (manifest,) if template is None or template is manifest else (manifest, template):
        owner["metadata"] = _mapping(owner, "metadata")
        yield owner["metadata"]


def _claims(manifest: Manifest, template: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """The specifications of all claims of volumes."""
    spec = manifest.get("spec")
    if not isinstance(spec, dict):
        return
    if manifest.get("kind") == "PersistentVolumeClaim":
        yield spec
    volumes = _items(template["spec"].get("volumes")) if template is not None else ()
    in_pods = (_mapping(_mapping(item, "ephemeral"), "volumeClaimTemplate") for item in volumes)
    for claim in (*_items(spec.get("volumeClaimTemplates")), *in_pods):
        if isinstance(claim.get("spec"), dict):
            yield claim["spec"]


def _patched(manifest: Manifest, operation: PatchOperation, field: str) -> Manifest:
    document = operation.model_dump(exclude={"value"} if operation.op == "remove" else None)
    try:
        changed = jsonpatch.JsonPatch([document]).apply(manifest)
    except jsonpatch.JsonPatchTestFailed:
        raise OverrideError(f"{field}.value", f"is not what the object has at {operation.path}") from None
    except _PATCH_ERRORS as error:
        message = f"{operation.op} {operation.path}: {error}"
        raise OverrideError(f"{field}.path", message[:512]) from None
    return dict(changed)


# --- what must stay ---


def _facts(manifest: Manifest, kind: Kind) -> Iterator[tuple[str, Any]]:
    """What a placement went by, and what says which object it is."""
    metadata, spec = _mapping(manifest, "metadata"), _mapping(manifest, "spec")
    yield (
        "apiVersion, kind, name or namespace",
        (
            *(manifest.get(name) for name in ("apiVersion", "kind")),
            *(metadata.get(name) for name in ("name", "generateName", "namespace")),
        ),
    )
    yield "the labels by which the fleet knows the object", _identity(metadata)
    if kind.pod_template is None:
        return
    template = template_in(manifest, kind) or {}
    pods = _mapping(template, "metadata")
    labels, selector = _mapping(pods, "labels"), _mapping(spec, "selector")
    yield (
        "replicas, parallelism or completions",
        [spec.get(name) for name in ("replicas", "parallelism", "completions")],
    )
    yield "the selector, or a label that it selects by", (selector, [labels.get(key) for key in _keys_of(selector)])
    yield "the labels by which the fleet knows the pods", _identity(pods)
    yield f"{GPU_MILLI_ANNOTATION}", _mapping(pods, "annotations").get(GPU_MILLI_ANNOTATION)
    yield "what the pods ask of their node", _shape(template)


def _mapping(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = document.get(name)
    return found if isinstance(found, dict) else {}


def _items(found: object) -> list[dict[str, Any]]:
    """The objects of a list, whatever else it has."""
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def _identity(metadata: Mapping[str, Any]) -> list[Any]:
    labels = _mapping(metadata, "labels")
    return [labels.get(key) for key in _IDENTITY]


def _keys_of(selector: Mapping[str, Any]) -> list[str]:
    expressions = _items(selector.get("matchExpressions"))
    return [*_mapping(selector, "matchLabels"), *(str(item.get("key")) for item in expressions)]


def _shape(template: Mapping[str, Any]) -> Any:
    try:
        spec = PodSpec.model_validate(template.get("spec"))
    except ValidationError as error:
        raise ChangesFactsError("patches", f"the pods are no longer valid: {error.errors()[0]['msg']}"[:512]) from None
    # The restart policy decides how an object ends; a node's name takes its pods from the scheduler.
    return spec.shape(), spec.restart_policy, spec.node_name
