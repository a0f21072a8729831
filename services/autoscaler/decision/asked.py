"""What a workload asks of its autoscaler, in the terms of the algorithm, with the API server's defaults filled in."""

from __future__ import annotations

from services.autoscaler.decision.horizontal.terms import (
    DOWN_RULES,
    UP_RULES,
    Behavior,
    Metric,
    MetricType,
    Policy,
    PolicyType,
    Rules,
    SelectPolicy,
    Target,
    Terms,
)
from shared.events.v1.sampling import SampledMetric, SampledObject
from shared.events.v1.scaling import MetricIdentifier, MetricSpec, MetricTarget, Scaling, ScalingBehavior, ScalingRules
from shared.model.identities import POD_SET_LABEL, WORKLOAD_LABEL, WORKLOAD_NAMESPACE_LABEL, WorkloadKey
from shared.model.quantities import parse_quantity, quantity_milli
from shared.model.selectors import LabelSelector

_BY_DEFAULT = (Metric(MetricType.RESOURCE, "cpu", Target(utilization=80)),)


def terms_of(scaling: Scaling) -> Terms:
    return Terms(
        max_replicas=scaling.max_replicas,
        metrics=tuple(_metric(item) for item in scaling.metrics) or _BY_DEFAULT,
        min_replicas=scaling.min_replicas,
        behavior=_behavior(scaling.behavior) if scaling.behavior is not None else None,
    )


def sampled_by(scaling: Scaling, workload: str, pod_set: str) -> tuple[SampledMetric | None, ...]:
    """What watchers are to be asked for, of each metric of the terms; None of what they measure anyway."""
    key = WorkloadKey.parse(workload)
    return tuple(_sampled(item, key, pod_set) for item in scaling.metrics) or (None,) * len(_BY_DEFAULT)


def _sampled(spec: MetricSpec, key: WorkloadKey, pod_set: str) -> SampledMetric | None:
    if spec.pods is not None:
        labels = {WORKLOAD_LABEL: key.name, WORKLOAD_NAMESPACE_LABEL: key.namespace, POD_SET_LABEL: pod_set}
        return SampledMetric(
            type="Pods",
            namespace=key.namespace,
            name=spec.pods.metric.name,
            selector=_selector(spec.pods.metric),
            pods=LabelSelector(match_labels=labels).text(),
        )
    if spec.object is not None:
        about = spec.object.described_object
        return SampledMetric(
            type="Object",
            namespace=key.namespace,
            name=spec.object.metric.name,
            selector=_selector(spec.object.metric),
            object=SampledObject(api_version=about.api_version, kind=about.kind, name=about.name),
        )
    if spec.external is not None:
        metric = spec.external.metric
        return SampledMetric(type="External", namespace=key.namespace, name=metric.name, selector=_selector(metric))
    return None


def _selector(metric: MetricIdentifier) -> str:
    return metric.selector.text() if metric.selector is not None else ""


def _metric(spec: MetricSpec) -> Metric:
    """Of a metric that was validated: the source that its type names is there."""
    kind = MetricType(spec.type)
    if spec.resource is not None:
        return Metric(kind, spec.resource.name, _target(spec.resource.target))
    if spec.container_resource is not None:
        source = spec.container_resource
        return Metric(kind, source.name, _target(source.target), container=source.container)
    if spec.object is not None:
        return Metric(
            kind, spec.object.metric.name, _target(spec.object.target), kind=spec.object.described_object.kind
        )
    by_name = spec.pods or spec.external
    assert by_name is not None
    return Metric(kind, by_name.metric.name, _target(by_name.target))


def _target(target: MetricTarget) -> Target:
    return Target(
        utilization=target.average_utilization,
        average_milli=quantity_milli(target.average_value) if target.average_value is not None else None,
        value_milli=quantity_milli(target.value) if target.value is not None else None,
    )


def _behavior(behavior: ScalingBehavior) -> Behavior:
    return Behavior(_rules(behavior.scale_up, UP_RULES), _rules(behavior.scale_down, DOWN_RULES))


def _rules(rules: ScalingRules | None, default: Rules) -> Rules:
    if rules is None:
        return default
    policies = tuple(Policy(PolicyType(item.type), item.value, item.period_seconds) for item in rules.policies)
    window = rules.stabilization_window_seconds
    return Rules(
        policies=policies or default.policies,
        select=SelectPolicy(rules.select_policy),
        stabilization_s=default.stabilization_s if window is None else window,
        tolerance=float(parse_quantity(rules.tolerance)) if rules.tolerance is not None else None,
    )
