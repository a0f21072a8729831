"""`python -m shared.runtime.probe` asks the service beside it whether it is ready: the health check of a container.

It knows the standard library only, so that asking costs a few hundredths of a second, and reads the same two variables
as the service. Kubernetes needs no such program: its kubelet asks over HTTP itself.
"""

from __future__ import annotations

import http.client
import os
import sys
from collections.abc import Mapping

READY = 0
NOT_READY = 1
_DEADLINE_S = 3.0
# What a service that listens on all addresses is asked at.
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_SHOWN = 500


def probe(environment: Mapping[str, str], path: str) -> tuple[int, str]:
    """The exit code, and what the service answered or why it was not reached.

    `environment` has FLOTILLA_HTTP_PORT and, unless the service listens on loopback, FLOTILLA_HTTP_HOST.
    """
    port = environment.get("FLOTILLA_HTTP_PORT", "")
    if not port.isdigit() or int(port) == 0:
        return NOT_READY, f"FLOTILLA_HTTP_PORT={port!r} is not a port that can be asked"
    host = environment.get("FLOTILLA_HTTP_HOST", "127.0.0.1")
    connection = http.client.HTTPConnection(_ANY.get(host, host), int(port), timeout=_DEADLINE_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        answer = response.read(_SHOWN).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return NOT_READY, f"{host}:{port} does not answer: {error}"
    finally:
        connection.close()
    return (READY if response.status == http.client.OK else NOT_READY), answer


def main(arguments: list[str]) -> int:
    """`arguments` may have a path to ask for instead of /readyz."""
    code, answer = probe(os.environ, arguments[0] if arguments else "/readyz")
    sys.stdout.write(f"{answer}\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
