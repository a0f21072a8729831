"""Cluster API's own CustomResourceDefinition of Clusters, from its Go module: fetched once, into the module cache.

python -m tests.testbed.cluster_api
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from tests.testbed.build import BuildError, find_go, run_go
from tests.testbed.installation import MissingBinariesError

MODULE: Final = "sigs.k8s.io/cluster-api"
VERSION: Final = "v1.13.2"
SUM: Final = "h1:NVdbVLmh6IyfdtENQAi80AijJf/FjfQLODz/6caDjlc="
_FILE: Final = "config/crd/bases/cluster.x-k8s.io_clusters.yaml"
_DOWNLOAD_S: Final = 300


@cache
def definition() -> dict[str, Any]:
    """As it is, but without conversion: that needs Cluster API's webhook. Raises MissingBinariesError."""
    try:
        found = json.loads(run_go(find_go(), "mod", "download", "-json", f"{MODULE}@{VERSION}", timeout_s=_DOWNLOAD_S))
    except BuildError as error:
        raise MissingBinariesError(f"{MODULE}@{VERSION} is not in the module cache: {error}") from error
    if found["Sum"] != SUM:
        raise BuildError(f"{MODULE}@{VERSION} is another than it was: {found['Sum']}")
    document: dict[str, Any] = yaml.safe_load((Path(found["Dir"]) / _FILE).read_text())
    document["spec"].pop("conversion", None)
    return document


def served_as(*versions: str) -> dict[str, Any]:
    """With these versions alone, of which the first is stored."""
    document = definition()
    kept = [item for item in document["spec"]["versions"] if item["name"] in versions]
    storage = [{**item, "served": True, "storage": item["name"] == versions[0]} for item in kept]
    return {**document, "spec": {**document["spec"], "versions": storage}}


if __name__ == "__main__":
    print(", ".join(item["name"] for item in definition()["spec"]["versions"]))
