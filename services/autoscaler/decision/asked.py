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
from shared.events.v1.scaling import MetricSpec, MetricTarget, Scaling, ScalingBehavior, ScalingRules
from shared.model.quantities import parse_quantity, quantity_milli

_BY_DEFAULT = (Metric(MetricType.RESOURCE, "cpu", Target(utilization=80)),)


def terms_of(scaling: Scaling) -> Terms:
    return Terms(
        max_replicas=scaling.max_replicas,
        metrics=tuple(_metric(item) for item in scaling.metrics) or _BY_DEFAULT,
        min_replicas=scaling.min_replicas,
        behavior=_behavior(scaling.behavior) if scaling.behavior is not None else None,
    )


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
