"""The fleet behind kubectl: custom resources on a hub cluster, bridged to the topics both ways, and REST."""
