"""Pure values and rules of Kubernetes and of the fleet: no I/O, no clock."""
