"""Where every replica of every workload goes. Pure: no clock, network, random source or log.

From the bottom to the top; each imports only what stands before it (`pyproject.toml` has the contract):

- `table`: the node table, a structure of arrays, and which pods are where on it.
- `asked`: from a request to plans (`PodSetPlan`), or to the reasons why not; from a placement to manifests.
- `interface`, `config`: what filters and cost terms are, and their weights; `clusters`: which clusters take replicas.
- `scoring`: filters, cost terms, and the cheapest node for each pod shape, kept up to date by difference.
- `seen`: the fleet as it was seen, and room held for what is not seen yet.
- `placing`: one pod set's outcome in the making, shared out among clusters, and why it is as it is.
- `decided`: the outcomes as they were decided, and what is to be decided again.
- `preempting`: room for what is more important, by what is less.
- `leaving`: out of clusters that are lost, tainted or draining.
- `state`: all of this, and the methods that change it; the rest is in its service. `remedies`: what would let a
  waiting replica run. `fence`: which decisions count; `derivation`: what follows from one; `fingerprint`: a hash.
"""
