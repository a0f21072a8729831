"""Makers of clusters, and the folder or Secret from which agents learn of those that were made."""

from shared.adapters.provisioning.cluster_api import ClusterApiProvisioner
from shared.adapters.provisioning.kubeconfig_secret import KubeconfigSecret
from shared.adapters.provisioning.kubeconfigs import KubeconfigFolder

__all__ = ["ClusterApiProvisioner", "KubeconfigFolder", "KubeconfigSecret"]
