"""Helpers of tests: a clock that is moved by hand."""
