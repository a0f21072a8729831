"""The HorizontalPodAutoscaler's algorithm, exactly, over the pods of all clusters.

Source: k8s.io/kubernetes pkg/controller/podautoscaler (1.36), with its feature gates for scaling to zero and for
tolerances of one's own. `tests/oracles/podautoscaler` runs the original on the same cases.

`replicas` proposes a count for one metric, `limits` keeps it within bounds, rates and stabilisation windows, and
`evaluation` is the whole of one look at a workload.
"""
