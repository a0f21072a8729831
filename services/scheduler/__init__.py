"""Places workloads on the nodes of the fleet, and says so in the journal."""
