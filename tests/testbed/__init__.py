"""The real test bed: complete Kubernetes clusters on loopback, from binaries built out of their Go modules.

`python -m tests.testbed.build` builds them once; `RealCluster` runs them; `binaries()` says where they are. What passes
on `services/simulator` must pass here too, unchanged: this is the side that keeps the simulator honest.
"""

from tests.testbed.cluster import RealCluster, hub_cluster
from tests.testbed.installation import MissingBinariesError, binaries
from tests.testbed.kubectl import KubectlError, run_kubectl
from tests.testbed.nodes import NodeShape

__all__ = ["KubectlError", "MissingBinariesError", "NodeShape", "RealCluster", "binaries", "hub_cluster", "run_kubectl"]
