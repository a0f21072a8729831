"""What the watcher's machine makes of an audit: what was lost is published, what only lags is not."""

from __future__ import annotations

import json
from collections.abc import Sequence

from services.watcher.decision.instructions import Publish
from services.watcher.decision.stimuli import AuditClosed, AuditFailed, AuditStarted, ListCompared, LogCompared
from shared.events.v1.objects import SyncMarked
from shared.model.digests import digest_of
from shared.model.identities import Resource
from shared.ports.cluster_api import Change, ChangeType
from tests.unit.watcher.test_mirror import NODES, PODS, Watcher, broken, marker, pod, told


class Audited(Watcher):
    """A watcher in sync at version 9, and lists beside its watch."""

    def __init__(self, *objects: Change, resource: Resource = PODS) -> None:
        super().__init__(resource)
        self.resource = resource
        self.synced(resource, *objects)

    def start(self) -> None:
        assert not self._handle(AuditStarted, resource=self.resource)

    def compare(self, version: str, *listed: Change) -> list[Publish]:
        names = {f"{change.namespace or '-'}/{change.name}" for change in listed}
        suspects = self.mirror.audits.suspects(self.resource, listed)
        return self._handle(ListCompared, resource=self.resource, version=version, listed=names, suspects=suspects)

    def audit(self, version: str, *listed: Change) -> list[Publish]:
        """A whole audit while the watch says nothing but that it stands at `version`."""
        self.start()
        self.watched(bookmark(version))
        return self.compare(version, *listed)

    def watched(self, *changes: Change) -> list[Publish]:
        return self.changes(self.resource, *changes)

    def log_is(self, read: dict[str, str]) -> list[Publish]:
        sent = self.mirror.audits.published(self.resource)
        return self._handle(LogCompared, resource=self.resource, sent=sent, read=read)

    def closed(self) -> dict[str, object]:
        """What the round found; at once in a heartbeat of its own if that is not nothing."""
        told_at_once = self._handle(AuditClosed)
        audited: dict[str, object] = self.beat()["audited"]
        assert [json.loads(beat.value or b"")["audited"] for beat in told_at_once] == [audited] * bool(
            audited["unlike"]
        )
        return audited


def bookmark(version: str) -> Change:
    return Change(ChangeType.BOOKMARK, version)


def digest(published: Sequence[Publish]) -> str:
    return SyncMarked.model_validate_json(published[-1].value or b"").digest


def test_nothing_differs_and_only_the_digest_is_said() -> None:
    watcher = Audited(pod("LISTED", "a", "1"), pod("LISTED", "b", "2"))

    published = watcher.audit("20", pod("LISTED", "a", "1"), pod("LISTED", "b", "2"))

    assert told(published) == ["v1/pods]"]
    assert digest(published) == digest_of({"shop/a": "u/1", "shop/b": "u/2"}).text
    found = watcher.closed()
    assert (found["objects"], found["unlikeCluster"], found["unlikeLog"], found["unlike"]) == (2, 0, 0, [])


def test_lost_changes_additions_and_deletions_are_published() -> None:
    watcher = Audited(pod("LISTED", "a", "1"), pod("LISTED", "b", "2"), pod("LISTED", "c", "3"))

    published = watcher.audit("20", pod("LISTED", "a", "1"), pod("LISTED", "b", "12"), pod("LISTED", "new", "15"))

    assert told(published) == [
        "+core/v1/pods/shop/b",
        "+core/v1/pods/shop/new",
        "-core/v1/pods/shop/c",
        "v1/pods]",
    ]
    assert digest(published) == digest_of({"shop/a": "u/1", "shop/b": "u/12", "shop/new": "u/15"}).text
    found = watcher.closed()
    assert (found["unlikeCluster"], found["unlike"]) == (3, ["v1/pods"])
    assert watcher.closed()["unlikeCluster"] == 0, "a round begins with a clean book"


def test_nothing_is_judged_before_the_watch_has_passed_the_list() -> None:
    watcher = Audited(pod("LISTED", "a", "1"))
    watcher.start()
    assert watcher.mirror.audits.can_judge(PODS, "20") is False

    assert not watcher.compare("20", pod("LISTED", "a", "15"))
    assert watcher.closed()["unchecked"] == ["v1/pods"]


def test_what_the_watch_tells_meanwhile_is_no_difference() -> None:
    """On its way while the list was taken; and changed, deleted or made since."""
    watcher = Audited(pod("LISTED", "a", "1"), pod("LISTED", "b", "2"))
    watcher.start()
    listed = [pod("LISTED", "a", "15"), pod("LISTED", "b", "2"), pod("LISTED", "brief", "16")]
    watcher.watched(pod("MODIFIED", "a", "15"), pod("ADDED", "brief", "16"), pod("DELETED", "brief", "21"))
    watcher.watched(pod("ADDED", "young", "22"), pod("DELETED", "b", "23"), bookmark("24"))

    assert told(watcher.compare("20", *listed)) == ["v1/pods]"]
    assert watcher.closed()["unlikeCluster"] == 0


def test_a_list_that_is_older_than_what_is_known_takes_nothing_back() -> None:
    """An API server may answer from a cache that lags behind."""
    watcher = Audited(pod("LISTED", "a", "1"))
    watcher.watched(pod("MODIFIED", "a", "30"), pod("ADDED", "b", "31"))

    assert told(watcher.audit("20", pod("LISTED", "a", "1"))) == ["v1/pods]"]


def test_a_list_of_the_watch_itself_ends_an_audit() -> None:
    watcher = Audited(pod("LISTED", "a", "1"))
    watcher.start()
    watcher.watched(marker("SYNC_STARTED", "30"), pod("LISTED", "a", "25"), marker("SYNC_FINISHED", "30"))

    assert watcher.mirror.audits.can_judge(PODS, "20") is None
    assert not watcher.compare("20", pod("LISTED", "a", "1"))


def test_an_audit_begins_only_when_the_resource_is_in_sync() -> None:
    watcher = Watcher(PODS)
    watcher.changes(PODS, broken(500))
    watcher._handle(AuditStarted, resource=PODS)
    assert watcher.mirror.audits.can_judge(PODS, "1") is None


def test_versions_that_are_no_numbers_cannot_be_judged() -> None:
    watcher = Audited(pod("LISTED", "a", "1"))
    watcher.start()
    assert watcher.mirror.audits.can_judge(PODS, "abc") is None


def test_what_the_log_has_otherwise_is_published_with_the_next_list() -> None:
    objects = [pod("LISTED", "a", "1"), pod("LISTED", "b", "2"), pod("LISTED", "c", "3")]
    watcher = Audited(*objects)

    published = watcher.log_is({"shop/a": "u/1", "shop/b": "malformed", "shop/nobody": "u/7"})
    assert told(published) == ["-core/v1/pods/shop/nobody"]

    assert told(watcher.audit("20", *objects)) == ["+core/v1/pods/shop/b", "+core/v1/pods/shop/c", "v1/pods]"]
    found = watcher.closed()
    assert (found["unlikeLog"], found["unlikeCluster"], found["unlike"]) == (3, 0, ["v1/pods"])


def test_what_was_published_while_the_log_was_read_is_right() -> None:
    watcher = Audited(pod("LISTED", "a", "1"), pod("LISTED", "b", "2"))
    sent = watcher.mirror.audits.published(PODS)
    watcher.watched(pod("MODIFIED", "a", "11"), pod("DELETED", "b", "12"), pod("ADDED", "c", "13"))
    read = {"shop/a": "u/0", "shop/b": "u/0", "shop/c": "u/13"}

    assert not watcher._handle(LogCompared, resource=PODS, sent=sent, read=read)
    assert watcher.closed()["unlikeLog"] == 0


def test_what_differs_and_is_gone_is_buried() -> None:
    watcher = Audited(pod("LISTED", "a", "1"))
    watcher.log_is({})
    assert told(watcher.audit("20")) == ["-core/v1/pods/shop/a", "v1/pods]"]
    found = watcher.closed()
    assert (found["unlikeLog"], found["unlikeCluster"]) == (1, 0)


def test_a_lost_node_counts_again() -> None:
    node = Change(
        ChangeType.LISTED,
        "12",
        "",
        "n1",
        json.dumps(
            {"kind": "Node", "apiVersion": "v1", "metadata": {"name": "n1"}, "status": {"capacity": {"cpu": "4"}}}
        ).encode(),
        "u",
    )
    watcher = Audited(resource=NODES)
    assert watcher.beat()["nodes"] == 0
    watcher.audit("20", node)
    assert (watcher.beat()["nodes"], watcher.beat()["capacity"]) == (1, {"cpu": "4"})


def test_what_could_not_be_compared_is_named() -> None:
    watcher = Audited(pod("LISTED", "a", "1"))
    watcher.start()
    watcher._handle(AuditFailed, resource=PODS)
    assert watcher.mirror.audits.can_judge(PODS, "1") is None
    assert watcher.closed()["unchecked"] == ["v1/pods"]
