"""What the hub decides: pure functions and machines over custom resources and records."""
