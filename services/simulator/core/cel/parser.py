"""From the text of an expression to a tree: precedence climbing over a flat list of tokens."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import Any, Literal

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>\d+\.\d*(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|0x[0-9a-fA-F]+u?|\d+u?)
    | (?P<string>[rR]?(?:\"\"\"(?:.|\n)*?\"\"\"|'''(?:.|\n)*?'''|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
    | (?P<name>[A-Za-z_]\w*)
    | (?P<symbol>\|\||&&|==|!=|<=|>=|[-+*/%!<>()\[\]{}.,?:])
    )""",
    re.VERBOSE,
)
_PRECEDENCE = {
    "||": 1,
    "&&": 2,
    "==": 3,
    "!=": 3,
    "<": 3,
    "<=": 3,
    ">": 3,
    ">=": 3,
    "in": 3,
    "+": 4,
    "-": 4,
    "*": 5,
    "/": 5,
    "%": 5,
}
_CONSTANTS = {"true": True, "false": False, "null": None}
_MAX_DEPTH = 64


class SyntaxProblemError(ValueError):
    """The text is no expression of this subset."""


@dataclass(frozen=True, slots=True)
class Node:
    """`kind` says what `value` is: a constant, a name, an operator, a field or the name of a function."""

    kind: Literal["constant", "name", "unary", "binary", "choice", "field", "index", "list", "map", "call", "method"]
    value: Any
    children: tuple[Node, ...] = ()


def _tokens(text: str) -> list[tuple[str, str]]:
    found, at = [], 0
    text = text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise SyntaxProblemError(f"unexpected {text[at : at + 10]!r}")
        found.append((match.lastgroup, match[match.lastgroup]))
        at = match.end()
    return found


class Parser:
    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._at = 0
        self._depth = 0

    def parse(self) -> Node:
        node = self._expression()
        if self._at < len(self._tokens):
            raise SyntaxProblemError(f"unexpected {self._peek()!r}")
        return node

    def _peek(self) -> str:
        return self._tokens[self._at][1] if self._at < len(self._tokens) else ""

    def _next(self) -> tuple[str, str]:
        if self._at >= len(self._tokens):
            raise SyntaxProblemError("unexpected end")
        self._at += 1
        return self._tokens[self._at - 1]

    def _accept(self, symbol: str) -> bool:
        if self._peek() == symbol and self._tokens[self._at][0] != "string":
            self._at += 1
            return True
        return False

    def _expect(self, symbol: str) -> None:
        if not self._accept(symbol):
            raise SyntaxProblemError(f"expected {symbol!r}, found {self._peek()!r}")

    def _expression(self) -> Node:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise SyntaxProblemError("nested too deeply")
        node = self._binary(1)
        if self._accept("?"):
            first = self._expression()
            self._expect(":")
            node = Node("choice", None, (node, first, self._expression()))
        self._depth -= 1
        return node

    def _binary(self, minimum: int) -> Node:
        node = self._unary()
        while True:
            operator = self._peek()
            precedence = _PRECEDENCE.get(operator, 0)
            if precedence < minimum or self._tokens[self._at][0] == "string":
                return node
            self._at += 1
            node = Node("binary", operator, (node, self._binary(precedence + 1)))

    def _unary(self) -> Node:
        for operator in ("!", "-"):
            if self._accept(operator):
                return Node("unary", operator, (self._unary(),))
        return self._postfix(self._primary())

    def _postfix(self, node: Node) -> Node:
        while True:
            if self._accept("."):
                kind, name = self._next()
                if kind != "name":
                    raise SyntaxProblemError(f"expected a field, found {name!r}")
                if self._accept("("):
                    node = Node("method", name, (node, *self._list(")")))
                else:
                    node = Node("field", name, (node,))
            elif self._accept("["):
                node = Node("index", None, (node, self._expression()))
                self._expect("]")
            else:
                return node

    def _primary(self) -> Node:  # noqa: PLR0911  # one return for each form
        if self._accept("("):
            node = self._expression()
            self._expect(")")
            return node
        if self._accept("["):
            return Node("list", None, self._list("]"))
        if self._accept("{"):
            return self._map()
        kind, text = self._next()
        if kind == "number":
            return Node("constant", _number(text))
        if kind == "string":
            return Node("constant", ast.literal_eval(text))
        if kind == "name":
            if text in _CONSTANTS:
                return Node("constant", _CONSTANTS[text])
            return Node("call", text, self._list(")")) if self._accept("(") else Node("name", text)
        raise SyntaxProblemError(f"unexpected {text!r}")

    def _list(self, end: str) -> tuple[Node, ...]:
        found: list[Node] = []
        while not self._accept(end):
            if found:
                self._expect(",")
                if self._accept(end):
                    break
            found.append(self._expression())
        return tuple(found)

    def _map(self) -> Node:
        found: list[Node] = []
        while not self._accept("}"):
            if found:
                self._expect(",")
            found.append(self._expression())
            self._expect(":")
            found.append(self._expression())
        return Node("map", None, tuple(found))


def _number(text: str) -> int | float:
    text = text.rstrip("u")
    if text.startswith("0x"):
        return int(text, 16)
    return float(text) if any(letter in text for letter in ".eE") else int(text)
