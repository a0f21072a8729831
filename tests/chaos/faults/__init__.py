"""Every way in which the run breaks something: one small class for each, behind one interface."""

from __future__ import annotations

from typing import Final

from tests.chaos.faults.base import Fault
from tests.chaos.faults.clusters import Drained, Flapping, Silent, Tainted
from tests.chaos.faults.connections import BrokersApart, HalfOpen, OneWayLoss, Partitioned
from tests.chaos.faults.disks import BrokerDiskFull, RedisDiskFull
from tests.chaos.faults.processes import (
    ApiServerKilled,
    ApiServerStopped,
    BrokerKilled,
    BrokerStopped,
    EtcdKilled,
    EtcdStopped,
    RedisKilled,
    RedisStopped,
    ServiceKilled,
    ServiceStopped,
)
from tests.chaos.faults.topics import Compacted, GroupStorm, Poisoned, Truncated

FAULTS: Final[tuple[type[Fault], ...]] = (
    ServiceKilled,
    ServiceStopped,
    BrokerKilled,
    BrokerStopped,
    RedisKilled,
    RedisStopped,
    ApiServerKilled,
    ApiServerStopped,
    EtcdKilled,
    EtcdStopped,
    BrokerDiskFull,
    RedisDiskFull,
    HalfOpen,
    Partitioned,
    OneWayLoss,
    BrokersApart,
    GroupStorm,
    Compacted,
    Truncated,
    Poisoned,
    Silent,
    Flapping,
    Drained,
    Tainted,
)

__all__ = ["FAULTS", "Fault"]
