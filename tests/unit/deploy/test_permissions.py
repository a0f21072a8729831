"""The permissions that are written down are of what the services watch and apply; the real test bed tries them."""

from __future__ import annotations

from services.executor.decision.identity import BASE_KINDS
from services.watcher.metric_apis import CUSTOM, EXTERNAL
from services.watcher.settings import DEFAULT_RESOURCES, parse_resources
from services.watcher.usage import NODE_METRICS, POD_METRICS
from shared.security.permissions import (
    APPLIED,
    EXECUTOR,
    EXECUTOR_CLUSTER_API,
    EXECUTOR_KWOK,
    EXECUTOR_NODE_GROUPS,
    HUB,
    HUB_CLUSTER_API,
    HUB_KUBECONFIGS,
    HUB_LEASE,
    HUB_PROVISION,
    HUB_WEBHOOK,
    KUBECONFIGS,
    OBSERVED,
    WATCHER,
    WATCHER_ASKED,
    WATCHER_METRICS,
    grants,
)

WITH_NODE_GROUPS = (*EXECUTOR, *EXECUTOR_NODE_GROUPS, *EXECUTOR_KWOK, *EXECUTOR_CLUSTER_API)
EVERYTHING = (*WATCHER, *WATCHER_METRICS, *WITH_NODE_GROUPS)


def test_the_watcher_may_observe_what_it_watches_by_default_and_nothing_else() -> None:
    watched = parse_resources(DEFAULT_RESOURCES)
    assert grants(*WATCHER) == {(r.group, r.plural, verb) for r in watched for verb in OBSERVED}
    assert grants(*WATCHER_METRICS) == {(r.group, r.plural, "list") for r in (NODE_METRICS, POD_METRICS)}


def test_the_executor_may_apply_the_kinds_that_workloads_are_made_of() -> None:
    kinds = {(kind.group_kind.group, f"{kind.kind.lower()}s") for kind in BASE_KINDS}
    applied = {(group, resource) for group, resource, verb in grants(*EXECUTOR) if verb == "delete"}
    assert applied == kinds
    assert {(*kind, verb) for kind in kinds for verb in APPLIED} < grants(*EXECUTOR)


def test_nothing_is_granted_twice_and_nothing_by_a_wildcard() -> None:
    for rules in ((*WATCHER, *WATCHER_METRICS), WITH_NODE_GROUPS):
        assert sum(len(list(rule.grants())) for rule in rules) == len(grants(*rules))
    assert not [grant for grant in grants(*EVERYTHING) if "*" in "".join(grant)]
    # Metrics' names are resources there.
    assert {group for group, _, _ in grants(*WATCHER_ASKED)} == {CUSTOM, EXTERNAL}
    assert {verb for _, _, verb in grants(*WATCHER_ASKED)} == {"get", "list"}
    assert not [grant for grant in grants(*EVERYTHING) if grant[1] in {"secrets", "serviceaccounts/token"}]


def test_of_secrets_the_hub_may_get_those_that_it_knows_by_name_where_it_makes_clusters() -> None:
    assert [grant for grant in grants(*HUB_CLUSTER_API) if grant[1] == "secrets"] == [("", "secrets", "get")]
    # It writes one, by its name.
    assert [rule.names for rule in HUB_KUBECONFIGS] == [(KUBECONFIGS,)]
    for rules in (HUB, HUB_PROVISION, HUB_LEASE, HUB_WEBHOOK):
        assert not [grant for grant in grants(*rules) if grant[1] == "secrets"]
