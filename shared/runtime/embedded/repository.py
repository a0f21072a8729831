"""The Maven repository, through jgo: the only module that knows how jars are found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from shared.runtime.embedded.errors import PartsMissingError
from shared.runtime.embedded.settings import EmbeddedSettings

_REQUEST_TIMEOUT_S = 30


class Repository:
    """Downloads below one directory; one `Repository` may be used by several threads for different jars."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def resolve(self, coordinate: str) -> dict[str, Path]:
        """Download this and all that it needs at run time; coordinate (group:artifact:version) to file."""
        roots, transitive = self._context.resolver.resolve([self._context.create_dependency(coordinate)])
        needed = [*roots, *(found for found in transitive if found.scope in {"compile", "runtime"})]
        return {f"{jar.groupId}:{jar.artifactId}:{jar.version}": jar.artifact.resolve() for jar in needed}

    def fetch(self, coordinate: str) -> Path:
        """Download one jar, without what it depends on. What an earlier attempt left behind is not trusted."""
        group, artifact, version = coordinate.split(":")
        jar = self._context.project(group, artifact).at_version(version).artifact()
        jar.cached_path.unlink(missing_ok=True)
        path: Path = jar.resolve()
        return path


def open_repository(
    settings: EmbeddedSettings, directory: Path, on_bytes: Callable[[int], None] | None = None
) -> Repository:
    """The configured repository, downloading below `directory`; `on_bytes` gets each chunk's size.

    An exception from `on_bytes` ends the download that called it.

    Raises:
        PartsMissingError: jgo is not installed.
    """
    if find_spec("jgo") is None:
        raise PartsMissingError("jgo is not installed: pip install 'flotilla[embedded]'")
    from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415 (an optional dependency)

    @contextmanager
    def report(_filename: str, _size: int) -> Iterator[Callable[[int], None]]:
        yield on_bytes or (lambda _count: None)

    remotes = {"configured": settings.maven_repository.rstrip("/")} if settings.maven_repository else None
    return Repository(
        MavenContext(
            resolver=PythonResolver(progress_callback=report),
            repo_cache=directory,
            remote_repos=remotes,
            timeout=_REQUEST_TIMEOUT_S,
        )
    )
