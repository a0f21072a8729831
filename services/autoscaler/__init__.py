"""Autoscaler: replicas and nodes, up and down, across the fleet."""
