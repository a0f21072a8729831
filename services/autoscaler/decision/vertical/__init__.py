"""Requests that containers should have by what they use: the algorithm of the Vertical Pod Autoscaler, pure.

Source: pkg/recommender (util, model, logic) of k8s.io/autoscaler/vertical-pod-autoscaler, with the defaults of its
flags. `tests/integration/autoscaler/vertical` asks that code the same. Left out: what it makes of containers that were
killed for want of memory.
"""
