"""The Common Expression Language, as far as validation rules of custom resources commonly use it.

Source: https://github.com/google/cel-spec and https://kubernetes.io/docs/reference/using-api/cel/. A rule that uses
more is not evaluated: `compile_rule` says so, and the simulator lets such a rule pass (see README).
"""

from __future__ import annotations

from services.simulator.core.cel.compiler import Program, UnsupportedError, compile_rule
from services.simulator.core.cel.functions import CelError

__all__ = ["CelError", "Program", "UnsupportedError", "compile_rule"]
