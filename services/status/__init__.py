"""Status: what became of every workload, folded from placements, results and observed objects."""
