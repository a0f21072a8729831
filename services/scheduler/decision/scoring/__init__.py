"""Filters, cost terms and profiles: the cheapest node for each pod shape, kept up to date by difference."""
