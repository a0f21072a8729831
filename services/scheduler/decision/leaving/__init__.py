"""Out of clusters that are lost, tainted or draining."""
