"""The `NodeGroupProvider` port: kwok, Cluster API, a webhook, and AWS."""

from shared.adapters.node_groups.providers import Providers

__all__ = ["Providers"]
