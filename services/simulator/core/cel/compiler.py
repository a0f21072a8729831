"""From a tree to closures: compiled once for each definition, run for each object."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from services.simulator.core.cel.functions import FUNCTIONS, METHODS, CelError
from services.simulator.core.cel.parser import Node, Parser, SyntaxProblemError

Scope = Mapping[str, Any]
Code = Callable[[Scope], Any]

_MACROS = frozenset({"all", "exists", "exists_one", "map", "filter"})
_ESCAPES = (("__dot__", "."), ("__dash__", "-"), ("__slash__", "/"), ("__underscores__", "__"))
_PYTHON_ERRORS = (TypeError, ValueError, AttributeError, KeyError, IndexError, ZeroDivisionError, OverflowError)


class UnsupportedError(ValueError):
    """The expression uses what this subset lacks."""


@dataclass(frozen=True, slots=True)
class Program:
    code: Code
    text: str

    @property
    def compares_versions(self) -> bool:
        """Whether it is a transition rule, which applies to updates only."""
        return "oldSelf" in self.text

    def evaluate(self, scope: Scope) -> Any:
        """Raises CelError if the expression has no value."""
        return self.code(scope)


@lru_cache(maxsize=2048)
def compile_rule(text: str) -> Program:
    """Raises UnsupportedError for what is no expression of the subset."""
    try:
        return Program(_compile(Parser(text).parse()), text)
    except SyntaxProblemError as error:
        raise UnsupportedError(f"{text!r}: {error}") from error


def _compile(node: Node) -> Code:
    return _COMPILERS[node.kind](node)


def _guarded(function: Callable[..., Any], *parts: Code) -> Code:
    """Runs a Python function on the values of parts; its errors are those of the expression."""

    def run(scope: Scope) -> Any:
        values = [part(scope) for part in parts]
        try:
            return function(*values)
        except _PYTHON_ERRORS as error:
            raise CelError(f"no such overload or value: {error}") from error

    return run


def _constant(node: Node) -> Code:
    value = node.value
    return lambda _: value


def _name(node: Node) -> Code:
    name = node.value

    def run(scope: Scope) -> Any:
        if name not in scope:
            raise CelError(f"undeclared reference to {name!r}")
        return scope[name]

    return run


def _unescape(name: str) -> str:
    if name.startswith("__") and name.endswith("__") and name[2:-2].isalpha():
        return name[2:-2]
    for escape, text in _ESCAPES:
        name = name.replace(escape, text)
    return name


def _select(value: Any, name: str) -> Any:
    if not isinstance(value, dict) or name not in value:
        raise CelError(f"no such key: {name}")
    return value[name]


def _field(node: Node) -> Code:
    inner, name = _compile(node.children[0]), _unescape(node.value)
    return lambda scope: _select(inner(scope), name)


def _index(node: Node) -> Code:
    def find(value: Any, key: Any) -> Any:
        if isinstance(value, list) and (isinstance(key, bool) or not 0 <= key < len(value)):
            raise CelError(f"index out of bounds: {key}")
        return value[key]

    return _guarded(find, *map(_compile, node.children))


def _list(node: Node) -> Code:
    parts = [_compile(child) for child in node.children]
    return lambda scope: [part(scope) for part in parts]


def _map(node: Node) -> Code:
    parts = [_compile(child) for child in node.children]
    pairs = list(zip(parts[::2], parts[1::2], strict=True))
    return lambda scope: {key(scope): value(scope) for key, value in pairs}


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise CelError("no such overload: a condition that is no boolean")
    return value


def _logical(node: Node, decisive: bool) -> Code:
    """`||` and `&&`: a side that decides wins even over an error of the other."""
    left, right = map(_compile, node.children)

    def run(scope: Scope) -> bool:
        try:
            if _boolean(left(scope)) is decisive:
                return decisive
        except CelError:
            if _boolean(right(scope)) is decisive:
                return decisive
            raise
        return _boolean(right(scope))

    return run


def _same_kind(one: Any, other: Any) -> bool:
    return isinstance(one, bool) is isinstance(other, bool)


def _divide(one: Any, other: Any) -> Any:
    if isinstance(one, int) and isinstance(other, int):
        quotient = abs(one) // abs(other)
        return quotient if (one < 0) is (other < 0) else -quotient
    return one / other


def _contained(one: Any, other: Any) -> bool:
    return any(_same_kind(one, entry) and one == entry for entry in other)


_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": lambda one, other: _same_kind(one, other) and one == other,
    "!=": lambda one, other: not (_same_kind(one, other) and one == other),
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _divide,
    "%": lambda one, other: one - other * _divide(one, other),
    "in": _contained,
}


def _binary(node: Node) -> Code:
    if node.value in {"||", "&&"}:
        return _logical(node, node.value == "||")
    return _guarded(_OPERATORS[node.value], *map(_compile, node.children))


def _unary(node: Node) -> Code:
    function = (lambda value: not _boolean(value)) if node.value == "!" else operator.neg
    return _guarded(function, _compile(node.children[0]))


def _choice(node: Node) -> Code:
    condition, first, second = map(_compile, node.children)
    return lambda scope: first(scope) if _boolean(condition(scope)) else second(scope)


def _call(node: Node) -> Code:
    if node.value == "has":
        return _has(node)
    function = FUNCTIONS.get(node.value)
    if function is None:
        raise UnsupportedError(f"function {node.value}")
    return _guarded(function, *map(_compile, node.children))


def _has(node: Node) -> Code:
    if len(node.children) != 1 or node.children[0].kind != "field":
        raise UnsupportedError("has() of what is no field")
    inner, name = _compile(node.children[0].children[0]), _unescape(node.children[0].value)

    def run(scope: Scope) -> bool:
        value = inner(scope)
        return isinstance(value, dict) and name in value

    return run


def _method(node: Node) -> Code:
    if node.value in _MACROS:
        return _macro(node)
    function = METHODS.get(node.value)
    if function is None:
        raise UnsupportedError(f"method {node.value}")
    return _guarded(function, *map(_compile, node.children))


def _macro(node: Node) -> Code:
    target, variable, *bodies = node.children
    if variable.kind != "name" or not 1 <= len(bodies) <= 2:  # noqa: PLR2004  # map() may have a filter
        raise UnsupportedError(f"{node.value}() in this form")
    values, name = _compile(target), str(variable.value)
    code = [_compile(body) for body in bodies]
    run = _MACRO_BODIES[node.value]

    def evaluate(scope: Scope) -> Any:
        found = values(scope)
        if not isinstance(found, list | dict):
            raise CelError("no such overload: a macro over what is no list or map")
        return run([{**scope, name: value} for value in found], found, code)

    return evaluate


def _all(scopes: list[Scope], _: Any, code: list[Code]) -> bool:
    problem: CelError | None = None
    for scope in scopes:
        try:
            if not _boolean(code[0](scope)):
                return False
        except CelError as error:
            problem = error
    if problem is not None:
        raise problem
    return True


def _exists(scopes: list[Scope], _: Any, code: list[Code]) -> bool:
    problem: CelError | None = None
    for scope in scopes:
        try:
            if _boolean(code[0](scope)):
                return True
        except CelError as error:
            problem = error
    if problem is not None:
        raise problem
    return False


def _mapped(scopes: list[Scope], _: Any, code: list[Code]) -> list[Any]:
    return [code[-1](scope) for scope in scopes if len(code) == 1 or _boolean(code[0](scope))]


def _filtered(scopes: list[Scope], values: Any, code: list[Code]) -> list[Any]:
    return [value for scope, value in zip(scopes, values, strict=True) if _boolean(code[0](scope))]


_MACRO_BODIES: dict[str, Callable[[list[Scope], Any, list[Code]], Any]] = {
    "all": _all,
    "exists": _exists,
    "exists_one": lambda scopes, _, code: sum(_boolean(code[0](scope)) for scope in scopes) == 1,
    "map": _mapped,
    "filter": _filtered,
}
_COMPILERS: dict[str, Callable[[Node], Code]] = {
    "constant": _constant,
    "name": _name,
    "field": _field,
    "index": _index,
    "list": _list,
    "map": _map,
    "binary": _binary,
    "unary": _unary,
    "choice": _choice,
    "call": _call,
    "method": _method,
}
