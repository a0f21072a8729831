"""The charts' rules of RBAC, made from `permissions` (`make gen`); `make verify` fails where they differ.

A chart or a base can only use files of its own folder: topics, ACLs and definitions are copied there, from where
`make gen` has just made them. So this comes last.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from shared.security.permissions import (
    APPLIED,
    EXECUTOR,
    EXECUTOR_CLUSTER_API,
    EXECUTOR_KWOK,
    EXECUTOR_NODE_GROUPS,
    HUB,
    HUB_CLUSTER_API,
    HUB_KUBECONFIGS,
    HUB_LEASE,
    HUB_PROVISION,
    HUB_WEBHOOK,
    KUBECONFIGS,
    OBSERVED,
    WATCHER,
    WATCHER_ASKED,
    WATCHER_METRICS,
    Rule,
)

ROOT = Path(__file__).resolve().parents[2]
_NOTE = "{{/* Made by `make gen` from shared/security/permissions.py; do not edit. */}}\n"


def documents() -> Iterator[tuple[str, str]]:
    """Every generated file: its path below the project's root, and its text."""
    agents = {
        "flotilla-agent.watcherRules": _rules(WATCHER),
        "flotilla-agent.watcherMetricsRules": _rules(WATCHER_METRICS),
        "flotilla-agent.watcherAskedRules": _rules(WATCHER_ASKED),
        "flotilla-agent.executorRules": _rules(EXECUTOR),
        "flotilla-agent.executorNodeGroupRules": _rules(EXECUTOR_NODE_GROUPS),
        "flotilla-agent.executorKwokRules": _rules(EXECUTOR_KWOK),
        "flotilla-agent.executorClusterApiRules": _rules(EXECUTOR_CLUSTER_API),
        "flotilla-agent.observedVerbs": _verbs(OBSERVED),
        "flotilla-agent.appliedVerbs": _verbs(APPLIED),
    }
    hub = {
        "flotilla.hubRules": _rules(HUB),
        "flotilla.hubLeaseRules": _rules(HUB_LEASE),
        "flotilla.hubProvisionRules": _rules(HUB_PROVISION),
        "flotilla.hubClusterApiRules": _rules(HUB_CLUSTER_API),
        "flotilla.hubKubeconfigsRules": _rules(HUB_KUBECONFIGS),
        "flotilla.kubeconfigsSecret": KUBECONFIGS,
        "flotilla.hubWebhookRules": _rules(HUB_WEBHOOK),
    }
    yield "deploy/helm/agent/templates/_rules.tpl", _template(agents)
    yield "deploy/helm/control-plane/templates/_rules.tpl", _template(hub)
    for copied in ("topics.yaml", "acls.yaml"):
        yield f"deploy/helm/control-plane/files/{copied}", (ROOT / "deploy" / "kafka" / copied).read_text()
    for definition in sorted((ROOT / "deploy" / "crds").glob("*.yaml")):
        for folder in ("helm/control-plane/files", "kustomize/control-plane/base"):
            yield f"deploy/{folder}/crds/{definition.name}", definition.read_text()


def _template(named: dict[str, str]) -> str:
    return _NOTE + "".join(
        f'\n{{{{- define "{name}" -}}}}\n{text.rstrip()}\n{{{{- end }}}}\n' for name, text in named.items()
    )


def _rules(rules: Sequence[Rule]) -> str:
    return yaml.safe_dump([rule.manifest() for rule in rules], sort_keys=False, default_flow_style=None, width=110)


def _verbs(verbs: Sequence[str]) -> str:
    return yaml.safe_dump([*verbs], default_flow_style=True)


def check() -> list[str]:
    """What differs from the files that are checked in."""
    return [
        f"{path} differs or is missing: run `make gen`"
        for path, text in documents()
        if not (ROOT / path).exists() or (ROOT / path).read_text() != text
    ]


def write() -> None:
    """Writes every file that differs."""
    for path, text in documents():
        file = ROOT / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists() or file.read_text() != text:
            file.write_text(text)


def main(arguments: Sequence[str]) -> int:
    if "--check" not in arguments:
        write()
        return 0
    problems = check()
    sys.stderr.writelines(f"{problem}\n" for problem in problems)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
