"""Deciding: what requests lead to, what is pending without one, and the settling of one workload that both use."""
