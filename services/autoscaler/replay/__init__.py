"""Decisions derived once more from what stands in them: `python -m services.autoscaler replay`.

`judging` derives them and compares, `command` is the command line.
"""
