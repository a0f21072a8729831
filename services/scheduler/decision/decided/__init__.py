"""The workloads as they were decided, and which of them wait."""
