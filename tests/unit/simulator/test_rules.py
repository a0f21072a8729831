"""The expression language of validation rules."""

from __future__ import annotations

from typing import Any

import pytest

from services.simulator.core.cel import CelError, UnsupportedError, compile_rule

_SELF = {
    "name": "web",
    "replicas": 3,
    "ratio": 0.5,
    "labels": {"a": "x", "b": "y"},
    "parts": [{"name": "one", "size": 1}, {"name": "two", "size": 2}],
    "limits": {"cpu": "2", "memory": "1Gi"},
    "from": {"in": True},
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 + 2 * 3 == 7 && !false", True),
        ("self.replicas > 2 ? 'many' : 'few'", "many"),
        ("has(self.name) && !has(self.missing)", True),
        ("self.parts.all(p, p.size > 0)", True),
        ("self.parts.exists(p, p.name == 'two')", True),
        ("self.parts.exists_one(p, p.size < 5)", False),
        ("self.parts.map(p, p.name)", ["one", "two"]),
        ("self.parts.map(p, p.size > 1, p.name)", ["two"]),
        ("self.parts.filter(p, p.size > 1).size()", 1),
        ("size(self.labels) == 2 && 'a' in self.labels", True),
        ("self.labels.all(k, self.labels[k].size() == 1)", True),
        ("self.name.matches('^w.b$') && self.name.startsWith('w') && 'web'.endsWith('b')", True),
        ("self.name in ['web', 'api']", True),
        ("[has(self.name), has(self.missing)].filter(given, given).size() == 1", True),
        ("quantity(self.limits.memory).compareTo(quantity('1024Mi')) == 0", True),
        ("isQuantity('1.5Gi') && !isQuantity('much')", True),
        ("quantity('1').isLessThan(quantity('1500m'))", True),
        ("-7 / 2", -3),
        ("-7 % 2", -1),
        ("7.0 / 2.0", 3.5),
        ("true == 1", False),
        ("1 == 1.0", True),
        ("self.missing == 1 || true", True),
        ("false && self.missing == 1", False),
        ("self.from.__in__", True),
        ("'a,b'.split(',').join('-')", "a-b"),
        ('"tab\\t".size()', 4),
        ("r'\\d+' == '\\\\d+'", True),
        ("string(self.replicas) + 'x'", "3x"),
        ("{'a': 1}['a']", 1),
    ],
)
def test_expressions(text: str, expected: Any) -> None:
    assert compile_rule(text).evaluate({"self": _SELF}) == expected


@pytest.mark.parametrize(
    "text", ["self.missing == 1", "self.parts[5]", "self.name > 1", "1 / 0", "self.parts.all(p, p.nope)", "other"]
)
def test_what_has_no_value_is_an_error(text: str) -> None:
    with pytest.raises(CelError):
        compile_rule(text).evaluate({"self": _SELF})


@pytest.mark.parametrize("text", ["self.", "1 +", "url('x')", "self.x.unknownMethod()", "(1", "has(1)", "(" * 200])
def test_what_is_not_understood_says_so(text: str) -> None:
    with pytest.raises(UnsupportedError):
        compile_rule(text)
