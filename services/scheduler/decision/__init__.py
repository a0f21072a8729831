"""Where every replica of every workload goes. Pure: no clock, network, random source or log.

- `state`: what is known and decided, and the methods that change it; the rest is in its service.
- `admission`, `manifests`: from a request to plans (`PodSetPlan`), or to the reasons why not.
- `clusters`, `nodes`, `slots`: what the fleet has, and what is held on it; `reservations`: replicas not seen yet.
- `filters`, `costs`, `profiles`: which nodes a shape may use, what each costs, and the cheapest, kept up to date.
- `drafts`: one workload's outcome in the making; `workloads`, `records`: the outcomes as they were decided, and what
  is held for them; `waiting`, `moves`: what is to be decided again, and when.
- `rendering`, `derivation`: from a decision to the commands for each cluster. `fence`: which decisions count.
"""
