"""Node classes: nodes with equal labels and taints, so that a selector is evaluated once for each class.

The label `kubernetes.io/hostname` is not part of a class where it is the node's name, as it nearly always is: it would
make every node a class of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.model.taints import Taint

HOSTNAME_LABEL = "kubernetes.io/hostname"
_INSTANCE_TYPE = "node.kubernetes.io/instance-type"
_TEXT = 80


@dataclass(frozen=True, slots=True)
class NodeClass:
    """`named` says that the hostname label, left out of `labels`, is the node's name. `text` is the class in words: its
    instance type where it says so, else its labels; and its taints.
    """

    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    named: bool
    text: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        labels = self.labels
        kind = labels.get(_INSTANCE_TYPE) or ",".join(f"{key}={labels[key]}" for key in sorted(labels))
        taints = " ".join(f"{taint.key}={taint.value}:{taint.effect}" for taint in self.taints)
        text = f"{kind} ({taints})" if taints else kind
        object.__setattr__(self, "text", text if len(text) <= _TEXT else f"{text[: _TEXT - 1]}…")

    def labels_of(self, name: str) -> Mapping[str, str]:
        return {**self.labels, HOSTNAME_LABEL: name} if self.named else self.labels


_Key = tuple[frozenset[tuple[str, str]], tuple[Taint, ...], bool]


class NodeClasses:
    """Numbers classes; the number of a class without nodes is given away again, with `version` raised."""

    def __init__(self) -> None:
        self._numbers: dict[_Key, int] = {}
        self._classes: list[NodeClass] = []
        self._keys: list[_Key] = []
        self._nodes: list[int] = []
        self._unused: list[int] = []
        self.version = 0
        # Classes with taints that are to be avoided where that is possible.
        self.softly_tainted = 0

    def __len__(self) -> int:
        return len(self._classes)

    def __getitem__(self, number: int) -> NodeClass:
        return self._classes[number]

    def join(self, name: str, labels: Mapping[str, str], taints: tuple[Taint, ...]) -> int:
        """The class of a node with these labels and taints, which counts it."""
        named = labels.get(HOSTNAME_LABEL) == name
        common = {key: value for key, value in labels.items() if not (named and key == HOSTNAME_LABEL)}
        key: _Key = (frozenset(common.items()), taints, named)
        number = self._numbers.get(key)
        if number is None:
            number = self._number(key, NodeClass(common, taints, named))
        self._nodes[number] += 1
        return number

    def leave(self, number: int) -> None:
        self._nodes[number] -= 1
        if not self._nodes[number]:
            self.softly_tainted -= is_softly_tainted(self._classes[number])
            del self._numbers[self._keys[number]]
            self._unused.append(number)

    def _number(self, key: _Key, made: NodeClass) -> int:
        self.softly_tainted += is_softly_tainted(made)
        if self._unused:
            number = self._unused.pop()
            self._classes[number], self._keys[number] = made, key
            # What was evaluated for the number's former class no longer holds.
            self.version += 1
        else:
            number = len(self._classes)
            self._classes.append(made)
            self._keys.append(key)
            self._nodes.append(0)
        self._numbers[key] = number
        return number


def is_softly_tainted(node_class: NodeClass) -> bool:
    return any(taint.effect == "PreferNoSchedule" for taint in node_class.taints)
