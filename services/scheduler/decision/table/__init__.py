"""The node table: every node of every cluster as a structure of arrays, and which pods are where on it."""
