"""`fleet.requests`: what users publish."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, RootModel

from shared.events.v1.workloads import ApplyWorkload, DeleteWorkload
from shared.model.identities import WorkloadKey


class WorkloadRequested(RootModel[Annotated[ApplyWorkload | DeleteWorkload, Field(discriminator="operation")]]):
    """A request to create, change, apply or delete one workload; its key is `namespace/name`."""

    @property
    def key(self) -> WorkloadKey:
        return self.root.workload.key

    def to_json(self) -> bytes:
        return self.root.to_json()
