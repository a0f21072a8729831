"""Room for what is more important: which replicas give way, to whom, and when."""
