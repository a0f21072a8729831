"""Whatever is recommended and allowed: what is requested is within the policy, below its limits, and valid."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.decision.asked.admission import plan_workload
from services.scheduler.decision.asked.requested import requested_of, stated, with_requested
from shared.events.v1.decisions import Requested
from shared.events.v1.vertical import ContainerRequests
from shared.events.v1.workloads import Workload
from shared.model.quantities import format_amount

Json = dict[str, Any]
RESOURCES = ("cpu", "memory")
AMOUNTS = {"cpu": st.integers(0, 64_000), "memory": st.integers(0, 1 << 40)}
WANTED = {"cpu": st.integers(1, 10**14), "memory": st.integers(1, 10**14)}


@st.composite
def containers(draw: st.DrawFn) -> Json:
    requests, limits = dict[str, str](), dict[str, str]()
    for name in RESOURCES:
        request = draw(st.none() | AMOUNTS[name])
        limit = draw(st.none() | AMOUNTS[name])
        if request is not None and limit is not None:
            request, limit = min(request, limit), max(request, limit)
        if request is not None:
            requests[name] = format_amount(name, request)
        if limit is not None:
            limits[name] = format_amount(name, limit)
    resources = {"requests": requests, "limits": limits}
    return {"name": "c", "image": "i", "resources": {key: given for key, given in resources.items() if given}}


@st.composite
def policies(draw: st.DrawFn) -> Json:
    least, most = dict[str, str](), dict[str, str]()
    for name in RESOURCES:
        low, high = sorted((draw(AMOUNTS[name]), draw(AMOUNTS[name])))
        if draw(st.booleans()):
            least[name] = format_amount(name, low)
        if draw(st.booleans()):
            most[name] = format_amount(name, high)
    return {
        "containerName": draw(st.sampled_from(["*", "c"])),
        "minAllowed": least,
        "maxAllowed": most,
        "controlledResources": draw(st.lists(st.sampled_from(RESOURCES), unique=True, max_size=2)),
        "controlledValues": draw(st.sampled_from(["RequestsAndLimits", "RequestsOnly"])),
    }


@given(containers(), policies(), st.fixed_dictionaries(WANTED), st.sampled_from(["template", "Deployment", "bound"]))
def test_within_policy_and_limits(container: Json, policy: Json, wanted: dict[str, int], way: str) -> None:
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    deployment = {"manifest": {"apiVersion": "apps/v1", "kind": "Deployment", "spec": spec}}
    workload = Workload.model_validate(
        {
            "name": "web",
            "podSets": [{"name": "main", **(deployment if way == "Deployment" else {"template": template})}],
            "placement": {"binding": "node" if way == "bound" else "cluster"},
            "vertical": {
                "updatePolicy": {"updateMode": "Auto"},
                "resourcePolicy": {"containerPolicies": [policy]},
            },
        }
    )
    (pod_set,) = workload.pod_sets
    (before,) = stated(workload, pod_set)
    found = requested_of(workload, pod_set, [ContainerRequests(name="c", **wanted)])
    assert {name for item in found for name in item.requests} == set(policy["controlledResources"])
    after = with_requested(workload, {"main": Requested(containers=found, position="t/0/0")})
    (now,) = stated(after, after.pod_sets[0])
    assert workload.pod_sets[0] == pod_set
    terms = workload.vertical.resource_policy.container_policies[0] if workload.vertical is not None else None
    assert terms is not None
    for name in RESOURCES:
        if name not in policy["controlledResources"]:
            assert (now.requests.get(name), now.limits.get(name)) == (
                before.requests.get(name),
                before.limits.get(name),
            )
            continue
        request, limit, former = now.requests[name], now.limits.get(name), before.limits.get(name)
        allowed = terms.bounded(name, wanted[name])  # type: ignore[arg-type]
        if former and policy["controlledValues"] == "RequestsOnly":
            assert (request, limit) == (min(allowed, former), former)
        else:
            assert request == allowed
        if former and policy["controlledValues"] == "RequestsAndLimits":
            stated_request = before.requests[name] or former
            assert limit is not None
            assert 0 <= Fraction(former, stated_request) * request - limit < 1
        if former:
            assert limit is not None
            assert request <= limit
    # With a limit of 0 Kubernetes refuses any request, whoever states it.
    if all(before.limits.get(name) != 0 for name in RESOURCES):
        assert plan_workload(after, "nvidia.com/gpu")[1] == ()
