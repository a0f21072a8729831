"""The types of Kubernetes as data: `builtin.json` is generated, `annotations.py` adds what the source lacks."""
