"""From a workload to the plan of each pod set, or to everything that is wrong with it.

The message's own model has checked what one field allows. Here is what needs Kubernetes' rules or several fields:
pod templates, and contradictions between the pod set, its manifest and the placement terms. Every error names the
field by its path in the request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
from pydantic import ValidationError

from services.scheduler.decision.asked.demands import Demand, demand_of
from services.scheduler.decision.asked.dependencies import followed
from services.scheduler.decision.asked.documents import document_error
from services.scheduler.decision.asked.labels import labels_of
from services.scheduler.decision.asked.manifests import Division, Kind, image_pod_spec, is_pod, kind_for
from services.scheduler.decision.asked.overrides import OverrideError, PodSetOverrides, apply_override, check_values
from services.scheduler.decision.asked.priorities import named_by
from services.scheduler.decision.asked.rendering import rendered_object
from services.scheduler.decision.table.neighbours import PodFacts
from services.scheduler.decision.table.rules import Rules, Term, rules_of, terms_of
from shared.events.registry import field_errors
from shared.events.v1.policies import DisruptionBudget, Rebalance
from shared.events.v1.workloads import MAX_REPLICAS, Binding, FieldError, Manifest, PlacementTerms, PodSet, Workload
from shared.model.names import dns_subdomain_error, label_key_error, label_value_error
from shared.model.pods import GPU_MILLI_ANNOTATION, NO_POD, WHOLE_DEVICE, PodShape, PodSpec
from shared.model.selectors import LabelSelector

_MAX_ERRORS = 16
# What nearly all terms, and many pod sets, say.
_BINDING = frozenset({"binding"})
_BY_TEMPLATE = frozenset({"name", "replicas", "template"})
# A decision states the whole outcome and names a node for each replica: it has to fit one record of 16 MiB, also where
# every name has its full length.
MAX_WORKLOAD_REPLICAS = 40_000


# What a pod asks of a node with GPUs: cpu in thousandths, devices, thousandths of each.
GpuClass = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class GangPlan:
    """So many replicas start together or not at all, `minimum` or all; `with_others`: only if the other pod sets do."""

    minimum: int | None
    with_others: bool

    def needed(self, desired: int) -> int:
        return desired if self.minimum is None else min(self.minimum, desired)


@dataclass(frozen=True, slots=True)
class PodSetPlan:
    """What is to be placed. `desired` counts pods; of `EVERYWHERE` it is not known before the clusters are.

    `holds_room` says whether replicas hold room on nodes until their pods are seen. `overrides` is None where it is the
    same in all clusters, `sharing` where the terms say nothing of how replicas are shared out. `follows` are the pod
    sets to whose clusters this one goes, with division `FOLLOWS`. `labels` are those of the pod template, and `terms`
    what its pods want of others that are to run beside them. `gpus` is None where a pod asks for none. `budget` bounds
    how many make room for others. `rebalance` is None where nothing that runs moves to a better place. `price_limit` is
    what all replicas of the workload together may cost an hour.
    """

    name: str
    division: Division
    desired: int
    demand: Demand
    holds_room: bool = True
    overrides: PodSetOverrides | None = field(default=None, compare=False)
    failback: bool = False
    follows: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    terms: tuple[Term, ...] = ()
    sharing: PlacementTerms | None = None
    gang: GangPlan | None = None
    gpus: GpuClass | None = field(default=None, compare=False)
    # Whether the pod template names a priority class.
    names_class: bool = field(default=False, compare=False)
    # Whether it is one pod, of which nothing is said but which nodes and clusters may have it.
    single: bool = field(init=False, repr=False, compare=False)
    # Whether each eligible cluster has as many as are desired.
    duplicated: bool = field(init=False, repr=False, compare=False)
    # Whether it may be different as soon as clusters come, go, or have other labels.
    follows_clusters: bool = field(init=False, repr=False, compare=False)
    budget: DisruptionBudget | None = None
    rebalance: Rebalance | None = None
    price_limit: float | None = None

    def __post_init__(self) -> None:
        duplicated = self.sharing is not None and self.sharing.division == "duplicated"
        by_labels = self.overrides is not None and self.overrides.by_labels
        special = (self.sharing, self.overrides, self.gang, self.follows or None, self.rebalance, self.price_limit)
        divided = self.division in (Division.NODES, Division.DIVIDED)
        single = self.desired == 1 and divided and self.holds_room and special == (None,) * 6
        object.__setattr__(self, "single", single)
        object.__setattr__(self, "duplicated", duplicated)
        object.__setattr__(self, "follows_clusters", by_labels or duplicated or self.division is Division.EVERYWHERE)

    def facts(self, workload: Workload) -> PodFacts | None:
        """What others may know of the pods; None where a cluster's own scheduler decides where they are."""
        if self.division is not Division.NODES:
            return None
        return PodFacts(workload.namespace, lambda: labels_of(workload, self.name, dict(self.labels)), self.terms)


@dataclass(slots=True)
class _Errors:
    path: str
    found: list[FieldError]

    def at(self, *parts: str | int) -> _Errors:
        return _Errors(".".join([self.path, *map(str, parts)]), self.found)

    def at_path(self, path: str) -> _Errors:
        """`path` begins with a dot, unless it is empty."""
        return _Errors(self.path + path, self.found)

    def add(self, reason: str, message: str) -> None:
        self.found.append(FieldError(field=self.path, reason=reason, message=message))

    def add_all(self, error: ValidationError) -> None:
        items = field_errors(error)
        for item in items:
            # A list whose only item is wrong is reported as too short as well; the item's own error says it all.
            if any(other.field.startswith(f"{item.field}.") for other in items):
                continue
            field = f"{self.path}.{item.field}" if item.field else self.path
            self.found.append(item.model_copy(update={"field": field}))


def plan_workload(
    workload: Workload, gpu_resource: str, known: PlanCache | None = None, *, images: bool = False
) -> tuple[tuple[PodSetPlan, ...], tuple[FieldError, ...]]:
    """Plans in the order of the pod sets; without errors there is one for each.

    `images`: pods of different images are not alike. Always the same for plans of one cache.
    """
    if known is not None and len(workload.pod_sets) == 1:
        # As nearly all are.
        plan = known.get(known.key(workload, workload.pod_sets[0]))
        if plan is not None and plan.desired <= MAX_WORKLOAD_REPLICAS:
            return (plan,), ()
    errors: list[FieldError] = []
    plans: list[PodSetPlan] = []
    for index, pod_set in enumerate(workload.pod_sets):
        key = known.key(workload, pod_set) if known is not None else None
        plan = known.get(key) if known is not None else None
        if plan is None:
            found: list[FieldError] = []
            planner = _Planner(workload, pod_set, gpu_resource, images=images)
            plan = planner.plan(_Errors(f"workload.podSets.{index}", found))
            if known is not None and not found:
                known.put(key, plan)
            errors += found
        plans.append(plan)
    if len(plans) > 1:
        _check_names(workload, errors)
        if not errors and any(plan.division is Division.TOGETHER and not plan.holds_room for plan in plans):
            plans = _following(workload, plans)
    total = sum(plan.desired for plan in plans)
    if total > MAX_WORKLOAD_REPLICAS:
        message = f"{total} replicas are more than one workload may have: {MAX_WORKLOAD_REPLICAS}; use several"
        errors.append(FieldError(field="workload.podSets", reason="TooLarge", message=message))
    return tuple(plans), tuple(errors[:_MAX_ERRORS])


def _following(workload: Workload, plans: list[PodSetPlan]) -> list[PodSetPlan]:
    """The plans, with those that follow others doing so. Not part of what is cached: it takes all pod sets to know."""
    leaders = followed(workload)
    return [
        replace(plan, division=Division.FOLLOWS, follows=leaders[plan.name], sharing=None)
        if plan.name in leaders
        else plan
        for plan in plans
    ]


def _check_names(workload: Workload, errors: list[FieldError]) -> None:
    """Two pod sets must not be one object in a cluster."""
    seen: dict[tuple[str, str], str] = {}
    for index, pod_set in enumerate(workload.pod_sets):
        manifest = pod_set.manifest or {}
        metadata = manifest.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        kind = str(manifest.get("kind", "Deployment"))
        identity = (kind, str(name or f"{workload.name}-{pod_set.name}"))
        # Bound pods have names of their own.
        if identity in seen and (workload.placement.binding is Binding.CLUSTER or kind != "Pod"):
            message = f"{kind} {identity[1][:80]!r} is that of pod set {seen[identity]!r} too"
            field = f"workload.podSets.{index}.manifest.metadata.name"
            errors.append(FieldError(field=field, reason="Contradiction", message=message))
        seen[identity] = pod_set.name


def _terms_key(terms: PlacementTerms) -> object:
    """Equal for terms that are equal as far as anything was said of them; most say who binds, and nothing else."""
    return terms.binding if terms.model_fields_set <= _BINDING else terms.to_json()


def _pod_set_key(pod_set: PodSet) -> tuple[bytes, object]:
    """The documents of a pod set, and all else of it that they do not say."""
    if pod_set.model_fields_set <= _BY_TEMPLATE:
        try:
            return orjson.dumps(pod_set.template), (pod_set.name, pod_set.replicas)
        except orjson.JSONEncodeError:
            # Numbers that are too large, or too deep: `document_error` says what is wrong with it.
            pass
    return pod_set.to_json(), None


def _own_claims(workload: Workload) -> frozenset[str]:
    """The names of the persistent volume claims that are pod sets of the workload."""
    found = set()
    for manifest in filter(None, (pod_set.manifest for pod_set in workload.pod_sets)):
        metadata = manifest.get("metadata")
        if manifest.get("kind") == "PersistentVolumeClaim" and isinstance(metadata, dict):
            found.add(str(metadata.get("name")))
    return frozenset(found)


class PlanCache:
    """Plans of pod sets that were valid, by everything that a plan depends on; the oldest makes room."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._plans: dict[tuple[object, ...], PodSetPlan] = {}

    def key(self, workload: Workload, pod_set: PodSet) -> tuple[object, ...]:
        terms, (document, rest) = _terms_key(workload.placement), _pod_set_key(pod_set)
        milli = workload.annotations.get(GPU_MILLI_ANNOTATION)
        # Overrides are tried on the object as it is rendered, which has parts of all of the workload.
        whole = workload.to_json() if workload.placement.overrides else b""
        key: tuple[object, ...] = (workload.namespace, milli, terms, rest, document, whole)
        if b"persistentVolumeClaim" in document:
            key = (*key, _own_claims(workload))
        if b"ffinity" in document or b"topologySpread" in document:
            # The pods may ask for their own labels, some of which are the workload's.
            named = b"flotilla.dev/" in document or b"app.kubernetes.io/" in document
            return (*key, workload.name if named else "", tuple(sorted(workload.labels.items())))
        return key

    def get(self, key: tuple[object, ...] | None) -> PodSetPlan | None:
        return self._plans.get(key) if key is not None else None

    def put(self, key: tuple[object, ...] | None, plan: PodSetPlan) -> None:
        if key is not None:
            if len(self._plans) >= self._size:
                del self._plans[next(iter(self._plans))]
            self._plans[key] = plan


class _Planner:
    def __init__(self, workload: Workload, pod_set: PodSet, gpu_resource: str, *, images: bool) -> None:
        self._images = images
        self._workload = workload
        self._terms: PlacementTerms = workload.placement
        self._namespace = workload.namespace
        self._annotations = workload.annotations
        self._pod_set = pod_set
        self._gpu_resource = gpu_resource
        self._kind: Kind = kind_for(pod_set, self._terms.binding)
        self._division = self._kind.division
        if self._terms.at_most_once and self._division is Division.DIVIDED:
            self._division = Division.TOGETHER
        self._labels: dict[str, str] = {}
        self._rules: Rules | None = None
        self._wanted: tuple[Term, ...] = ()
        # Whether its pods have data where they are, or an end that they run to.
        self._stays = False

    def plan(self, errors: _Errors) -> PodSetPlan:
        manifest = self._pod_set.manifest
        for name, document in (("template", self._pod_set.template), ("manifest", manifest)):
            if document is not None and (problem := document_error(document)):
                errors.at(name).at_path(problem[0]).add("Invalid", problem[1])
                return PodSetPlan(self._pod_set.name, self._kind.division, 0, demand_of(NO_POD, self._terms))
        if manifest is not None:
            self._check_manifest(manifest, errors.at("manifest"))
        shape = self._shape(errors)
        desired = self._desired(errors)
        overrides = self._overrides(errors) if self._terms.overrides and not errors.found else None
        holds_room = self._kind.pod_template is not None and self._kind.division is not Division.EVERYWHERE
        gang = self._gang(desired, errors) if self._terms.gang is not None and holds_room else None
        limit = self._price_limit(errors) if self._terms.max_price_per_hour is not None else None
        amounts = dict(shape.requests)
        devices = amounts.get(self._gpu_resource, 0)
        return PodSetPlan(
            name=self._pod_set.name,
            division=self._division,
            desired=desired,
            demand=demand_of(shape, self._terms, self._rules),
            holds_room=holds_room,
            overrides=overrides,
            failback=self._terms.failback,
            labels=tuple(sorted(self._labels.items())),
            terms=self._wanted,
            sharing=None if self._kind.division is Division.EVERYWHERE else self._terms.of_division,
            gang=gang,
            gpus=(amounts.get("cpu", 0), devices, shape.gpu_milli) if devices else None,
            names_class=named_by(self._workload, self._pod_set)[1] is not None,
            budget=self._pod_set.disruption_budget,
            rebalance=self._rebalance(holds_room=holds_room) if self._terms.rebalance is not None else None,
            price_limit=limit,
        )

    def _rebalance(self, *, holds_room: bool) -> Rebalance | None:
        """Only what is replaced replica by replica, and is the same wherever it runs."""
        spec = (self._pod_set.manifest or {}).get("spec")
        stays = self._stays or (isinstance(spec, dict) and bool(spec.get("volumeClaimTemplates")))
        divided = self._kind.division in (Division.DIVIDED, Division.NODES)
        return self._terms.rebalance if holds_room and divided and not stays else None

    def _price_limit(self, errors: _Errors) -> float | None:
        if self._kind.division is Division.EVERYWHERE and self._kind.pod_template is not None:
            where = _Errors("workload.placement.maxPricePerHour", errors.found)
            kind = str((self._pod_set.manifest or {}).get("kind"))[:80]
            where.add(
                "Contradiction", f"pod set {self._pod_set.name!r} runs on every node ({kind}), however many there are"
            )
        return self._terms.max_price_per_hour

    def _gang(self, desired: int, errors: _Errors) -> GangPlan | None:
        terms, name = self._terms.gang, self._pod_set.name
        if terms is None:
            return None
        minimum = terms.min_count.get(name)
        where = _Errors(f"workload.placement.gang.minCount.{name}", errors.found)
        if minimum is not None and self._division is Division.TOGETHER:
            where.add("Contradiction", f"pod set {name!r} is placed whole: all its pods start together anyway")
        elif minimum is not None and minimum > desired:
            where.add("Contradiction", f"{minimum} are more than the {desired} replicas of pod set {name!r}")
        return GangPlan(minimum, terms.scope == "workload")

    def _overrides(self, errors: _Errors) -> PodSetOverrides | None:
        """Those that are for this pod set, each of which can be applied to it."""
        name, own = self._pod_set.name, []
        rendered = rendered_object(self._workload, self._pod_set)
        for index, override in enumerate(self._terms.overrides):
            if override.pod_sets and name not in override.pod_sets:
                continue
            own.append(override)
            where = _Errors(f"workload.placement.overrides.{index}", errors.found)
            try:
                check_values(override)
                apply_override(rendered, override, self._kind)
            except OverrideError as error:
                where.at_path(f".{error.field}").add("Contradiction", f"pod set {name!r}: {error}")
        return PodSetOverrides(own, rendered, self._kind) if own else None

    def _check_manifest(self, manifest: Manifest, errors: _Errors) -> None:
        for required in ("apiVersion", "kind"):
            if not isinstance(manifest.get(required), str) or not manifest[required]:
                errors.at(required).add("Required", f"a manifest must have {required}")
        metadata = manifest.get("metadata", {})
        if not isinstance(metadata, dict):
            errors.at("metadata").add("Invalid", "must be an object")
            return
        name, namespace = metadata.get("name"), metadata.get("namespace")
        if name is not None:
            wrong = dns_subdomain_error(name) if isinstance(name, str) else "must be a string"
            if wrong:
                errors.at("metadata", "name").add("Invalid", wrong)
        if namespace not in (None, "", self._namespace):
            message = f"is {str(namespace)[:80]!r}, but the workload's namespace is {self._namespace!r}"
            errors.at("metadata", "namespace").add("Contradiction", message)
        if self._terms.at_most_once and self._division is Division.EVERYWHERE:
            message = f"a {manifest['kind']} is in all clusters, which placement.atMostOnce excludes"
            errors.at("kind").add("Contradiction", message)
        if self._kind.division is Division.NODES and not is_pod(manifest):
            message = (
                f"with binding node a manifest that has pods must be a v1 Pod, not {str(manifest.get('kind'))[:80]!r}"
            )
            errors.at("kind").add("Contradiction", message)
        _check_labels(metadata, errors.at("metadata"))

    def _shape(self, errors: _Errors) -> PodShape:
        pod_set = self._pod_set
        if pod_set.image is not None:
            milli = self._gpu_milli(self._annotations, _Errors("workload.annotations", errors.found))
            return self._pod_shape(image_pod_spec(pod_set), milli, errors, errors)
        if pod_set.template is not None:
            return self._template_shape(pod_set.template, errors.at("template"))
        manifest = pod_set.manifest or {}
        path = self._kind.pod_template
        if path is None:
            return NO_POD
        template: object = manifest
        for part in path:
            template = template.get(part) if isinstance(template, dict) else None
        return self._template_shape(template, errors.at("manifest", *path))

    def _template_shape(self, template: object, errors: _Errors) -> PodShape:
        if not isinstance(template, dict):
            errors.add("Required", "a pod template must be an object with a spec")
            return NO_POD
        spec, metadata = template.get("spec"), template.get("metadata") or {}
        if not isinstance(spec, dict):
            errors.at("spec").add("Required", "a pod template must have a spec")
            return NO_POD
        if not isinstance(metadata, dict):
            errors.at("metadata").add("Invalid", "must be an object")
            metadata = {}
        self._labels = _check_labels(metadata, errors.at("metadata"))
        if self._kind.needs_selector and self._pod_set.manifest is not None:
            selected = _Errors(errors.path.removesuffix(".template") + ".selector", errors.found)
            _check_selector(self._pod_set.manifest, metadata.get("labels"), selected)
        annotations = metadata.get("annotations")
        where = errors.at("metadata", "annotations")
        milli = self._gpu_milli(annotations if isinstance(annotations, dict) else {}, where)
        return self._pod_shape(spec, milli, errors.at("spec"), where)

    def _pod_shape(self, document: dict[str, Any], milli: int, errors: _Errors, annotations: _Errors) -> PodShape:
        try:
            spec = PodSpec.model_validate(document)
        except ValidationError as error:
            errors.add_all(error)
            return NO_POD
        self._check_pod_spec(spec, errors)
        if self._terms.binding is Binding.NODE:
            self._read_rules(spec)
        if milli != WHOLE_DEVICE and not spec.requests().get(self._gpu_resource):
            message = f"shares GPUs, but no container asks for {self._gpu_resource}"
            annotations.add("Contradiction", f"{GPU_MILLI_ANNOTATION} {message}")
        return spec.shape(
            gpu_milli=milli,
            node_selector=self._terms.node_selector,
            tolerations=self._terms.tolerations,
            images=self._images,
            claims=self._claims(spec),
        )

    def _claims(self, spec: PodSpec) -> tuple[str, ...]:
        """The claims of volumes that have to be where the pods go; those of the workload itself go with them."""
        own = _own_claims(self._workload)
        return tuple(sorted(f"{self._namespace}/{name}" for name in spec.claims() if name not in own))

    def _check_pod_spec(self, spec: PodSpec, errors: _Errors) -> None:
        policy = spec.restart_policy or "Always"
        if policy not in self._kind.restart_policies:
            allowed = " or ".join(sorted(self._kind.restart_policies))
            errors.at("restartPolicy").add("Contradiction", f"must be {allowed} here, not {policy}")
        self._stays = policy != "Always" or bool(spec.claims())
        if spec.node_name:
            errors.at("nodeName").add("Contradiction", "the scheduler chooses the node; use nodeSelector")
        for key, value in self._terms.node_selector.items():
            if spec.node_selector.get(key, value) != value:
                message = f"{key} is {spec.node_selector[key]!r} here and {value!r} in placement.nodeSelector"
                errors.at("nodeSelector").add("Contradiction", message)

    def _read_rules(self, spec: PodSpec) -> None:
        """What the pods ask of others; with binding cluster each cluster's own scheduler sees to it."""
        workload, affinity = self._workload, spec.affinity
        labels = labels_of(workload, self._pod_set.name, self._labels)
        self._rules = rules_of(affinity, spec.topology_spread_constraints, workload.namespace, labels)
        self._wanted = terms_of(affinity.pod_affinity, affinity.pod_anti_affinity, workload.namespace, labels)

    def _gpu_milli(self, annotations: Mapping[str, Any], errors: _Errors) -> int:
        text = annotations.get(GPU_MILLI_ANNOTATION)
        if text is None:
            return WHOLE_DEVICE
        if not isinstance(text, str) or not text.isascii() or not text.isdigit() or len(text) > len(str(WHOLE_DEVICE)):
            errors.add("Invalid", f"{GPU_MILLI_ANNOTATION} must be a number from 1 to {WHOLE_DEVICE}, as text")
            return WHOLE_DEVICE
        if not 1 <= int(text) <= WHOLE_DEVICE:
            errors.add("Invalid", f"{GPU_MILLI_ANNOTATION} must be a number from 1 to {WHOLE_DEVICE}")
            return WHOLE_DEVICE
        return int(text)

    def _desired(self, errors: _Errors) -> int:
        pod_set, division = self._pod_set, self._kind.division
        if division is Division.NODES or pod_set.manifest is None:
            return 1 if pod_set.replicas is None else pod_set.replicas
        spec = pod_set.manifest.get("spec")
        spec = spec if isinstance(spec, dict) else {}
        where = errors.at("manifest", "spec")
        if division is Division.DIVIDED:
            return self._divided(_count(spec, "replicas", where), errors)
        if pod_set.replicas is not None:
            message = f"a {str(pod_set.manifest.get('kind'))[:80]} is not divided by replicas"
            errors.at("replicas").add("Contradiction", message)
        if division is Division.TOGETHER and self._kind.pod_template:
            parallelism, completions = _count(spec, "parallelism", where), _count(spec, "completions", where)
            pods = 1 if parallelism is None else parallelism
            return pods if completions is None else min(pods, max(completions, 1))
        return 1

    def _divided(self, stated: int | None, errors: _Errors) -> int:
        given = self._pod_set.replicas
        if given is None:
            return 1 if stated is None else stated
        if stated is not None and stated != given:
            message = f"is {given} here and {stated} in the manifest's spec; give one of them"
            errors.at("replicas").add("Contradiction", message)
        return given


def _count(spec: Mapping[str, Any], name: str, errors: _Errors) -> int | None:
    value = spec.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_REPLICAS:
        errors.at(name).add("Invalid", f"must be a whole number from 0 to {MAX_REPLICAS}")
        return None
    return value


def _check_labels(metadata: Mapping[str, Any], errors: _Errors) -> dict[str, str]:
    """The labels, none where they are no labels."""
    labels = metadata.get("labels")
    if labels is None:
        return {}
    where = errors.at("labels")
    if not isinstance(labels, dict):
        where.add("Invalid", "must be an object")
        return {}
    before = len(errors.found)
    for key, value in labels.items():
        wrong_value = label_value_error(value) if isinstance(value, str) else "must be a string"
        for problem in (label_key_error(key), wrong_value):
            if problem:
                where.add("Invalid", f"{key[:80]!r}: {problem}")
    return labels if len(errors.found) == before else {}


def _check_selector(manifest: Manifest, labels: object, errors: _Errors) -> None:
    spec = manifest.get("spec")
    selector = spec.get("selector") if isinstance(spec, dict) else None
    if selector is None:
        errors.add("Required", "a selector that matches the labels of the template must be given")
        return
    try:
        parsed = LabelSelector.model_validate(selector)
    except ValidationError as error:
        errors.add_all(error)
        return
    if not parsed.match_labels and not parsed.match_expressions:
        errors.add("Invalid", "an empty selector selects every pod of the namespace")
    elif not parsed.matches(labels if isinstance(labels, dict) else {}):
        errors.add("Contradiction", "does not match the labels of the template")
