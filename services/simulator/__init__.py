"""The Kubernetes API of any number of clusters, served from one process; see README.md."""
