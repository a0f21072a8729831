"""`python -m services.hub` runs the hub; `python -m services.hub crds --write|--check` is about `deploy/crds`."""

from __future__ import annotations

import sys
from pathlib import Path

from services.hub import crds
from services.hub.bootstrap import build
from services.hub.settings import HubSettings
from shared.runtime.service import EXIT_FAILED, EXIT_USAGE, main

_DIRECTORY = Path(__file__).parents[2] / "deploy" / "crds"


def generate(arguments: list[str]) -> int:
    """The exit code."""
    match arguments:
        case ["--write"]:
            crds.write(_DIRECTORY)
            return 0
        case ["--check"]:
            different = crds.differences(_DIRECTORY)
            for path in different:
                sys.stderr.write(f"{path} differs from the code: run `make gen`\n")
            return EXIT_FAILED if different else 0
    sys.stderr.write("usage: python -m services.hub crds --write | --check\n")
    return EXIT_USAGE


if __name__ == "__main__":
    if sys.argv[1:2] == ["crds"]:
        sys.exit(generate(sys.argv[2:]))
    main("hub", HubSettings, build)
