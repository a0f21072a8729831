"""What a workload asks for: from its request to the plan of each pod set, and to what each cluster is to run."""
