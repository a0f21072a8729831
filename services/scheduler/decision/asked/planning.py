"""From one pod set of a workload to its plan: its pod template, how many are desired, and the terms that are for it.

What contradicts itself, or Kubernetes' rules, is an error that names the field by its path in the request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from services.scheduler.decision.asked.checking import Errors, check_labels, check_selector, count_in
from services.scheduler.decision.asked.demands import demand_of
from services.scheduler.decision.asked.dependencies import own_claims
from services.scheduler.decision.asked.documents import document_error
from services.scheduler.decision.asked.labels import labels_of
from services.scheduler.decision.asked.manifests import Division, Kind, image_pod_spec, is_pod, kind_for
from services.scheduler.decision.asked.overrides import OverrideError, PodSetOverrides, apply_override, check_values
from services.scheduler.decision.asked.plans import GangPlan, PodSetPlan
from services.scheduler.decision.asked.priorities import named_by
from services.scheduler.decision.asked.rendering import rendered_object
from services.scheduler.decision.table.rules import Rules, Term, rules_of, terms_of
from shared.events.v1.policies import Rebalance
from shared.events.v1.workloads import Binding, Manifest, PlacementTerms, PodSet, Workload
from shared.model.names import dns_subdomain_error
from shared.model.pods import GPU_MILLI_ANNOTATION, NO_POD, WHOLE_DEVICE, PodShape, PodSpec


class Planner:
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

    def plan(self, errors: Errors) -> PodSetPlan:
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

    def _price_limit(self, errors: Errors) -> float | None:
        if self._kind.division is Division.EVERYWHERE and self._kind.pod_template is not None:
            where = Errors("workload.placement.maxPricePerHour", errors.found)
            kind = str((self._pod_set.manifest or {}).get("kind"))[:80]
            where.add(
                "Contradiction", f"pod set {self._pod_set.name!r} runs on every node ({kind}), however many there are"
            )
        return self._terms.max_price_per_hour

    def _gang(self, desired: int, errors: Errors) -> GangPlan | None:
        terms, name = self._terms.gang, self._pod_set.name
        if terms is None:
            return None
        minimum = terms.min_count.get(name)
        where = Errors(f"workload.placement.gang.minCount.{name}", errors.found)
        if minimum is not None and self._division is Division.TOGETHER:
            where.add("Contradiction", f"pod set {name!r} is placed whole: all its pods start together anyway")
        elif minimum is not None and minimum > desired:
            where.add("Contradiction", f"{minimum} are more than the {desired} replicas of pod set {name!r}")
        return GangPlan(minimum, terms.scope == "workload")

    def _overrides(self, errors: Errors) -> PodSetOverrides | None:
        """Those that are for this pod set, each of which can be applied to it."""
        name, own = self._pod_set.name, []
        rendered = rendered_object(self._workload, self._pod_set)
        for index, override in enumerate(self._terms.overrides):
            if override.pod_sets and name not in override.pod_sets:
                continue
            own.append(override)
            where = Errors(f"workload.placement.overrides.{index}", errors.found)
            try:
                check_values(override)
                apply_override(rendered, override, self._kind)
            except OverrideError as error:
                where.at_path(f".{error.field}").add("Contradiction", f"pod set {name!r}: {error}")
        return PodSetOverrides(own, rendered, self._kind) if own else None

    def _check_manifest(self, manifest: Manifest, errors: Errors) -> None:
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
        check_labels(metadata, errors.at("metadata"))

    def _shape(self, errors: Errors) -> PodShape:
        pod_set = self._pod_set
        if pod_set.image is not None:
            milli = self._gpu_milli(self._annotations, Errors("workload.annotations", errors.found))
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

    def _template_shape(self, template: object, errors: Errors) -> PodShape:
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
        self._labels = check_labels(metadata, errors.at("metadata"))
        if self._kind.needs_selector and self._pod_set.manifest is not None:
            selected = Errors(errors.path.removesuffix(".template") + ".selector", errors.found)
            check_selector(self._pod_set.manifest, metadata.get("labels"), selected)
        annotations = metadata.get("annotations")
        where = errors.at("metadata", "annotations")
        milli = self._gpu_milli(annotations if isinstance(annotations, dict) else {}, where)
        return self._pod_shape(spec, milli, errors.at("spec"), where)

    def _pod_shape(self, document: dict[str, Any], milli: int, errors: Errors, annotations: Errors) -> PodShape:
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
        own = own_claims(self._workload)
        return tuple(sorted(f"{self._namespace}/{name}" for name in spec.claims() if name not in own))

    def _check_pod_spec(self, spec: PodSpec, errors: Errors) -> None:
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

    def _gpu_milli(self, annotations: Mapping[str, Any], errors: Errors) -> int:
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

    def _desired(self, errors: Errors) -> int:
        pod_set, division = self._pod_set, self._kind.division
        if division is Division.NODES or pod_set.manifest is None:
            return 1 if pod_set.replicas is None else pod_set.replicas
        spec = pod_set.manifest.get("spec")
        spec = spec if isinstance(spec, dict) else {}
        where = errors.at("manifest", "spec")
        if division is Division.DIVIDED:
            return self._divided(count_in(spec, "replicas", where), errors)
        if pod_set.replicas is not None:
            message = f"a {str(pod_set.manifest.get('kind'))[:80]} is not divided by replicas"
            errors.at("replicas").add("Contradiction", message)
        if division is Division.TOGETHER and self._kind.pod_template:
            parallelism, completions = count_in(spec, "parallelism", where), count_in(spec, "completions", where)
            pods = 1 if parallelism is None else parallelism
            return pods if completions is None else min(pods, max(completions, 1))
        return 1

    def _divided(self, stated: int | None, errors: Errors) -> int:
        given = self._pod_set.replicas
        if given is None:
            return 1 if stated is None else stated
        if stated is not None and stated != given:
            message = f"is {given} here and {stated} in the manifest's spec; give one of them"
            errors.at("replicas").add("Contradiction", message)
        return given
