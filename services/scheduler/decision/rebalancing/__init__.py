"""Replicas that run move to better places, if asked."""
