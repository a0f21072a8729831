"""How many nodes each node group of each cluster should have, and which nodes go. Pure: nothing but arguments decides.

From the bottom to the top:

- `seen`: what is known at one look: clusters, nodes with their pods, node groups, and who waits.
- `objects`, `templates`, `waiting`, `fleet`: what the records say, kept so that it can be looked at as `seen`.
- `scheduling`: the only door to the scheduler's own filters, costs and node table (docs/adr/0024).
- `trial`: a candidate fleet, on which pods are placed as the scheduler will place them.
- `rewards`: utilities of a candidate size, their weights, and what is beyond limits.
- `packing`: which groups to grow for pods that find no place: where a search begins. `searching`: the best sizes.
- `growing`: the sizes that pending pods and head-room need, explained. `shrinking`: which nodes are not needed, and
  which could be cheaper ones. `stock`: groups whose provider has had nothing lately.
- `orders`: when to plan what arrived together, and nodes that were asked for and do not come.
- `draining`: which nodes go when, and which stay after all.
- `planning`: the orders of all groups. `telling`: what is told of them. `memory`: what is remembered of them.
- `outlooks`: what a plan means for the workloads that wait, and what of it is news.
- `looks`, `trail`: what a plan saw, as it is written. `cycle`: one plan. `recorded`: its record, and the plan again.
"""
