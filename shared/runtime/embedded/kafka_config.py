"""What can be chosen about an embedded broker, and the `server.properties` that follow from it. Pure."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from shared.runtime.embedded.network import LOOPBACK

_MIB = 1024 * 1024
_YEAR_MIN = 365 * 24 * 60


def new_cluster_id() -> str:
    """22 URL-safe characters, as Kafka wants; none that its command line would take for an option."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        if not text.startswith("-"):
            return text


@dataclass(frozen=True, slots=True)
class KafkaConfig:
    """One broker that is also a controller. Ports of 0 are chosen at the first start and then kept.

    `voters` maps the node id of each controller of the quorum to its controller port; empty means this node alone.
    Replication follows from it: three copies and two in sync from three nodes on. `cluster_id` counts only when the
    storage is formatted. `overrides` are further broker properties and win. `host` is the address of its listeners;
    `enter` goes before its command line, for a broker that lives in another network namespace, where that address is.
    `scram_users` (name → password) are known from the formatting on, for a listener of `overrides` that asks for them.
    """

    node_id: int = 1
    port: int = 0
    controller_port: int = 0
    voters: Mapping[int, int] = field(default_factory=dict)
    cluster_id: str = field(default_factory=new_cluster_id)
    heap_mb: int = 256
    overrides: Mapping[str, str] = field(default_factory=dict)
    host: str = LOOPBACK
    enter: tuple[str, ...] = ()
    scram_users: Mapping[str, str] = field(default_factory=dict)

    @property
    def bootstrap(self) -> str:
        return f"{self.host}:{self.port}"

    def scram_arguments(self) -> tuple[str, ...]:
        """For the formatting of the storage."""
        return tuple(
            argument
            for name, password in self.scram_users.items()
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
            for argument in ("--add-scram", f"{mechanism}=[name={name},password={password}]")
        )

    def properties(self, storage: Path) -> dict[str, str]:
        """The broker's configuration with its data in `storage`; the ports must have been chosen."""
        voters = self.voters or {self.node_id: self.controller_port}
        replicas = min(3, len(voters))
        return {
            **self._listeners(voters),
            **_replication(replicas, min_in_sync=max(1, replicas - 1)),
            **_SMALL_MACHINE,
            **({} if self.voters else _ALONE),
            "log.dirs": str(storage),
            "auto.create.topics.enable": "false",
            # No waiting for further members: a group of one service starts at once.
            "group.initial.rebalance.delay.ms": "0",
            # A machine that was off for a holiday must find its consumers' positions again (the default is a week).
            "offsets.retention.minutes": str(_YEAR_MIN),
            **self.overrides,
        }

    def _listeners(self, voters: Mapping[int, int]) -> dict[str, str]:
        return {
            "process.roles": "broker,controller",
            "node.id": str(self.node_id),
            "controller.quorum.voters": ",".join(f"{node}@{self.host}:{port}" for node, port in voters.items()),
            "listeners": f"BROKER://{self.host}:{self.port},CONTROLLER://{self.host}:{self.controller_port}",
            "advertised.listeners": f"BROKER://{self.host}:{self.port}",
            "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "BROKER",
            "controller.listener.names": "CONTROLLER",
        }


# Threads and buffers for a few cores and a heap of 256 MB; the cleaner alone would take 128 MB by default.
_SMALL_MACHINE = {
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
    "num.recovery.threads.per.data.dir": "2",
    "log.cleaner.threads": "1",
    "log.cleaner.dedupe.buffer.size": str(16 * _MIB),  # 600,000 keys in one pass
    "log.segment.bytes": str(64 * _MIB),
    "log.index.size.max.bytes": str(_MIB),  # allocated for each partition; enough for a segment of this size
}


# After a crash the controller refuses the new broker until the old one's session has ended (9 s by default). That
# protects nothing when broker and controller are one process.
_ALONE = {"broker.session.timeout.ms": "3000", "broker.heartbeat.interval.ms": "500"}


def _replication(replicas: int, *, min_in_sync: int) -> dict[str, str]:
    return {
        "default.replication.factor": str(replicas),
        "min.insync.replicas": str(min_in_sync),
        "offsets.topic.replication.factor": str(replicas),
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": str(replicas),
        "transaction.state.log.min.isr": str(min_in_sync),
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": str(replicas),
        "share.coordinator.state.topic.min.isr": str(min_in_sync),
        "share.coordinator.state.topic.num.partitions": "1",
    }
