"""How a cluster stands that somebody is to make, and the labels and taints that go with it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from shared.model.taints import Taint

# On a Cluster that is being deleted: its cluster goes without being drained any further.
FORCE_DELETE_ANNOTATION: Final = "flotilla.dev/force-delete"
# What a cluster has while it is drained: workloads leave it as a lost one, each behind its replacement.
DRAINING: Final = Taint(key="flotilla.dev/draining", effect="NoExecute")

# Reasons of what does not come. Whoever asks again may be told otherwise.
FORBIDDEN: Final = "Forbidden"
NOT_FOUND: Final = "NotFound"
REFUSED: Final = "Refused"
UNAVAILABLE: Final = "ManagementUnavailable"
NAME_CONFLICT: Final = "NameConflict"
NO_KUBECONFIG: Final = "KubeconfigMissing"
BAD_KUBECONFIG: Final = "KubeconfigRefused"
NO_ROOM: Final = "KubeconfigsFull"
# Reasons of what does.
PROVISIONING: Final = "Provisioning"
PROVISIONED: Final = "Provisioned"
UPDATING: Final = "Updating"


class Stage(StrEnum):
    ABSENT = "absent"  # there is none, or no more
    FOREIGN = "foreign"  # something of this name is somebody else's, and is left alone
    COMING = "coming"  # asked for; cannot be joined yet
    READY = "ready"  # its API server answers, and its kubeconfig is where agents look
    LEAVING = "leaving"  # being deleted
    UNKNOWN = "unknown"  # who knows did not answer


@dataclass(frozen=True, slots=True)
class Standing:
    """`reason` is one CamelCase word, `message` for people: neither has anything of a kubeconfig."""

    stage: Stage
    reason: str = ""
    message: str = ""
