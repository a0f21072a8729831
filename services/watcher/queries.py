"""Which metrics an agent reads from Prometheus, and by which queries: the file of $FLOTILLA_WATCHER_QUERIES.

Queries are the operator's of the cluster: a workload names a metric, and could read what is not its own if it brought
its query along. In a query `$namespace`, `$name` (of a described object) and `$matchers` (the metric's selector, and
except for type External the namespace) are filled in; `$$` is a dollar sign.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from string import Template
from typing import Final, Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from shared.events.v1.sampling import SampledMetric
from shared.model.base import StrictValue

_PLACES: Final = frozenset({"namespace", "name", "matchers"})
# A term of a selector's text: key, !key, key=value, key in (a,b), key notin (a,b).
_TERM: Final = re.compile(r"(!?)([^\s=,!()]+)(?:(=)([^,]*)| (in|notin) \(([^)]*)\))?(?:,|$)")
_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class QueryError(ValueError):
    """A metric cannot be asked for by a query; the message is for whoever asked."""


class Query(StrictValue):
    """Of type Pods the answer has a label `pod`, of type Object it is one value, of type External any series."""

    type: Literal["Pods", "Object", "External"]
    metric: str = Field(min_length=1, description="as workloads name it")
    query: str = Field(min_length=1, description="PromQL, an instant vector or a scalar")

    @field_validator("query")
    @classmethod
    def _places(cls, text: str) -> str:
        template = Template(text)
        if not template.is_valid():
            raise ValueError("a dollar sign that stands for itself is written $$")
        unknown = sorted(set(template.get_identifiers()) - _PLACES)
        if unknown:
            raise ValueError(
                f"${unknown[0]} is not known: there are {', '.join(f'${name}' for name in sorted(_PLACES))}"
            )
        return text

    def rendered(self, metric: SampledMetric) -> str:
        """Raises QueryError."""
        name = metric.object.name if metric.object is not None else ""
        return Template(self.query).substitute(
            namespace=_escaped(metric.namespace), name=_escaped(name), matchers=matchers(metric)
        )


class QueryServer(StrictValue):
    """A Prometheus server, or what has its HTTP API."""

    url: str = Field(pattern=r"^https?://[^\s]+$")
    clusters: tuple[str, ...] = Field(
        default=(), description="whose metrics it has; absent: every cluster of the agent"
    )
    bearer_token_file: Path | None = None
    ca_file: Path | None = None
    queries: tuple[Query, ...] = Field(min_length=1)

    def query_of(self, metric: SampledMetric) -> Query | None:
        return next((item for item in self.queries if (item.type, item.metric) == (metric.type, metric.name)), None)


class Queries(StrictValue):
    servers: tuple[QueryServer, ...] = ()

    def of_cluster(self, cluster: str) -> tuple[QueryServer, ...]:
        return tuple(server for server in self.servers if not server.clusters or cluster in server.clusters)


NO_QUERIES: Final = Queries()


def load_queries(path: Path | None) -> Queries:
    """Raises QueryError."""
    if path is None:
        return NO_QUERIES
    try:
        return Queries.model_validate(yaml.safe_load(path.read_text()) or {})
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise QueryError(f"{path}: {error}") from error


def matchers(metric: SampledMetric) -> str:
    """The metric's selector as PromQL has it, behind the namespace. Raises QueryError."""
    found = [f'namespace="{_escaped(metric.namespace)}"'] if metric.type != "External" else []
    for absent, key, equals, value, operator, values in _TERM.findall(metric.selector):
        if not _LABEL.fullmatch(key):
            raise QueryError(f"{key!r} is no name of a label in Prometheus")
        if operator:
            listed = "|".join(re.escape(item) for item in values.split(","))
            found.append(f'{key}{"=~" if operator == "in" else "!~"}"{_escaped(listed)}"')
        elif absent:
            found.append(f'{key}=""')
        elif equals:
            found.append(f'{key}="{_escaped(value)}"')
        else:
            found.append(f'{key}!=""')
    return ",".join(found)


def _escaped(text: str) -> str:
    """Within double quotes: PromQL's are those of Go, of which JSON's are a part."""
    return json.dumps(text, ensure_ascii=False)[1:-1]
