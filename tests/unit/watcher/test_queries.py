"""The operator's queries, and what a metric's selector and namespace come to in PromQL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from services.watcher.queries import Query, QueryError, QueryServer, load_queries, matchers
from services.watcher.settings import WatcherSettings
from shared.events.v1.sampling import SampledMetric, SampledObject
from shared.model.selectors import LabelSelector


def metric(kind: str = "External", selector: str = "", **more: Any) -> SampledMetric:
    return SampledMetric.model_validate(
        {"type": kind, "namespace": "shop", "name": "lag", "selector": selector, **more}
    )


def test_a_selector_becomes_matchers() -> None:
    selector = LabelSelector.model_validate(
        {
            "matchLabels": {"topic": "orders"},
            "matchExpressions": [
                {"key": "zone", "operator": "In", "values": ["b", "a.1"]},
                {"key": "old", "operator": "DoesNotExist"},
                {"key": "env", "operator": "NotIn", "values": ["dev"]},
                {"key": "live", "operator": "Exists"},
                {"key": "none", "operator": "In", "values": [""]},
            ],
        }
    )
    text = selector.text()
    assert text == "env notin (dev),live,none in (),!old,topic=orders,zone in (a.1,b)"
    assert matchers(metric(selector=text)) == ('env!~"dev",live!="",none=~"",old="",topic="orders",zone=~"a\\\\.1|b"')
    assert matchers(metric("Pods", "a=")) == 'namespace="shop",a=""'
    assert matchers(metric()) == ""
    with pytest.raises(QueryError, match="no name of a label"):
        matchers(metric(selector="app.kubernetes.io/name=x"))


def test_a_query_is_filled_in_and_nothing_breaks_out_of_its_quotes() -> None:
    query = Query(type="Object", metric="lag", query='sum(hits{ingress="$name",$matchers}) or vector($$)')
    about = SampledObject(kind="Ingress", name='a"} or up{x="\\')
    with pytest.raises(ValueError, match=r"is written \$\$"):
        Query(type="Object", metric="lag", query="rate(x[$])")
    assert query.rendered(metric("Object", object=about)) == (
        'sum(hits{ingress="a\\"} or up{x=\\"\\\\",namespace="shop"}) or vector($)'
    )


@pytest.mark.parametrize("text", ["up{x=~'a$'}", "up{x='$cluster'}", ""])
def test_a_query_that_cannot_be_filled_in_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        Query(type="External", metric="lag", query=text)


def test_the_file_says_whose_metrics_a_server_has(tmp_path: Path) -> None:
    path = tmp_path / "queries.yaml"
    path.write_text(
        "servers:\n"
        "- url: http://east:9090\n  clusters: [east]\n  queries: [{type: External, metric: lag, query: 'sum(lag)'}]\n"
        "- url: http://all:9090\n  queries: [{type: Pods, metric: hits, query: 'sum by (pod) (hits)'}]\n"
    )
    queries = load_queries(path)
    assert [server.url for server in queries.of_cluster("east")] == ["http://east:9090", "http://all:9090"]
    assert [server.url for server in queries.of_cluster("west")] == ["http://all:9090"]
    server: QueryServer = queries.servers[0]
    assert server.query_of(metric()) is not None
    assert server.query_of(metric("Pods")) is None
    for wrong in ("servers: [{url: ftp://x, queries: []}]", "servers: {", "other: 1"):
        path.write_text(wrong)
        with pytest.raises(QueryError, match=r"queries\.yaml"):
            load_queries(path)
    with pytest.raises(QueryError, match="none"):
        load_queries(WatcherSettings(watcher_cluster="a", watcher_queries=tmp_path / "none").watcher_queries)
