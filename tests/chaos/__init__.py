"""Real faults on the real test bed: `python -m tests.chaos --seed S --minutes N`; see README.md."""
