from __future__ import annotations

import json

from services.watcher.decision.truncation import only_metadata


def test_an_object_that_is_too_large_is_cut_to_its_metadata() -> None:
    obj = {
        "kind": "ConfigMap",
        "apiVersion": "v1",
        "metadata": {"name": "a", "annotations": {"x": "y"}},
        "data": {"k": "v" * 1000},
    }
    assert json.loads(only_metadata(json.dumps(obj).encode(), "cut")) == {
        "kind": "ConfigMap",
        "apiVersion": "v1",
        "metadata": {"name": "a", "annotations": {"x": "y", "cut": "true"}},
    }
