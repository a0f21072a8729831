"""Makers of clusters, and the folder from which agents learn of those that were made."""

from shared.adapters.provisioning.cluster_api import ClusterApiProvisioner
from shared.adapters.provisioning.kubeconfigs import KubeconfigFolder

__all__ = ["ClusterApiProvisioner", "KubeconfigFolder"]
