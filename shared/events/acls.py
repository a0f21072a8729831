"""Least privilege at the broker: what each principal may do, made from the topics module.

`<cluster>` in a principal or a name stands for one cluster, whose executor has an account of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from shared.events.topics import ALL_TOPICS, COMMANDS_PREFIX, SOLE_WRITERS, Topic, commands_topic

CLUSTER: Final = "<cluster>"
# Who commits positions: the names of their consumer groups begin as those of their publishers do.
_COMMITTERS: Final = ("scheduler", "status", "autoscaler")
# Of the clusters that the hub makes: nobody knows their names before, so it may read the commands of all.
HOSTED_EXECUTOR: Final = "hosted-executor"
# An executor reads its own cluster's commands and writes for it alone: one account for each.
_ACCOUNTS: Final = {
    "executor": (f"executor-{CLUSTER}", HOSTED_EXECUTOR),
    f"executor of {CLUSTER}": (f"executor-{CLUSTER}",),
}


@dataclass(frozen=True, slots=True)
class Acl:
    """Operations that a principal may do on a resource, from anywhere."""

    principal: str
    operations: tuple[str, ...]
    resource: Literal["topic", "group", "transactional-id"]
    name: str
    pattern: Literal["literal", "prefixed"] = "literal"

    def document(self) -> dict[str, Any]:
        return {
            "principal": f"User:{self.principal}",
            "operations": [*self.operations],
            "resource": self.resource,
            "name": self.name,
            "pattern": self.pattern,
        }

    @property
    def of_each_cluster(self) -> bool:
        return CLUSTER in self.principal or CLUSTER in self.name


def acls(topics: Iterable[Topic] = (*ALL_TOPICS, commands_topic(CLUSTER))) -> Iterator[Acl]:
    """All of them, those of clusters with `<cluster>` in them."""
    for topic in topics:
        for principal in topic.written_by:
            for account in _ACCOUNTS.get(principal, (principal,)):
                yield Acl(account, ("Describe", "Write"), "topic", topic.name)
        for principal in topic.read_by:
            for account in _ACCOUNTS.get(principal, (principal,)):
                yield Acl(account, ("Describe", "Read"), "topic", topic.name)
    for principal, prefix in SOLE_WRITERS.items():
        yield Acl(principal, ("Describe", "Write"), "transactional-id", prefix, "prefixed")
    for principal in _COMMITTERS:
        yield Acl(principal, ("Describe", "Read"), "group", SOLE_WRITERS[principal], "prefixed")
    # Clusters come while they run.
    yield Acl("scheduler", ("Create", "Describe", "Write"), "topic", COMMANDS_PREFIX, "prefixed")
    yield Acl("autoscaler", ("Describe", "Write"), "topic", COMMANDS_PREFIX, "prefixed")
    yield Acl(HOSTED_EXECUTOR, ("Describe", "Read"), "topic", COMMANDS_PREFIX, "prefixed")


def acls_for(clusters: Iterable[str]) -> list[Acl]:
    """All of them, for these clusters."""
    names = list(clusters)
    found: list[Acl] = []
    for acl in acls():
        found += [_in(acl, name) for name in names] if acl.of_each_cluster else [acl]
    return found


def _in(acl: Acl, cluster: str) -> Acl:
    return replace(acl, principal=acl.principal.replace(CLUSTER, cluster), name=acl.name.replace(CLUSTER, cluster))
