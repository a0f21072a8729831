"""The checked-in list of Apache Kafka's jars with their digests, and the command that renews it.

`python -m shared.runtime.embedded.lockfile` resolves `KAFKA` and all that it needs anew and rewrites `kafka.lock`; the
difference is then reviewed and committed like that of any other lock.
"""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

from shared.runtime.embedded.errors import EmbeddedError
from shared.runtime.embedded.repository import open_repository
from shared.runtime.embedded.settings import EmbeddedSettings

KAFKA_VERSION = "4.1.2"
KAFKA = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}"
# Through this the broker logs; without it a failed start would have no reason. Of the log4j version that Kafka brings.
LOG_BINDING = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.3"
LOCK_FILE = Path(__file__).with_name("kafka.lock")

_HEADER = "# Written by `python -m shared.runtime.embedded.lockfile`. SHA-256, bytes, group:artifact:version.\n"


@dataclass(frozen=True, slots=True)
class LockedJar:
    """One jar: its Maven coordinate, its size in bytes and its SHA-256 in hexadecimal."""

    coordinate: str
    size: int
    sha256: str

    @property
    def filename(self) -> str:
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"


def read_lock(path: Path = LOCK_FILE) -> tuple[LockedJar, ...]:
    """The jars in class path order.

    Raises:
        EmbeddedError: a line has not the form `sha256 size group:artifact:version`.
    """
    jars = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if not line or line.startswith("#"):
            continue
        try:
            sha256, size, coordinate = line.split()
            jars.append(LockedJar(coordinate, int(size), sha256))
        except ValueError as error:
            raise EmbeddedError(f"{path}:{number}: not `sha256 size group:artifact:version`") from error
    return tuple(jars)


def lock_digest(jars: tuple[LockedJar, ...]) -> str:
    """Names a set of jars: equal for equal locks."""
    return hashlib.sha256("\n".join(f"{jar.sha256} {jar.coordinate}" for jar in jars).encode()).hexdigest()


def resolve_lock(settings: EmbeddedSettings) -> tuple[LockedJar, ...]:
    """Resolve `KAFKA`, its dependencies and the log binding from the repository, as a lock."""
    with tempfile.TemporaryDirectory() as downloads:
        repository = open_repository(settings, Path(downloads))
        artifacts = repository.resolve(KAFKA)
        # Not resolved together: jgo would then apply the binding's version management to Kafka's dependencies.
        artifacts[LOG_BINDING] = repository.fetch(LOG_BINDING)
        jars = [
            LockedJar(name, path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
            for name, path in artifacts.items()
        ]
    return tuple(sorted(jars, key=lambda jar: jar.coordinate))


def main() -> None:
    jars = resolve_lock(EmbeddedSettings())
    LOCK_FILE.write_text(_HEADER + "".join(f"{jar.sha256} {jar.size} {jar.coordinate}\n" for jar in jars))


if __name__ == "__main__":
    main()
