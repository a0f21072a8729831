"""Decisions derived once more from the log: `python -m services.scheduler replay`.

`engine` does to an empty state what the journal says that the leader did to its own, and `verdicts` compares what comes
of it with what was decided; `source` reads the log, `command` is the command line.
"""
