"""How to reach an API server, and as whom: read by kubernetes-asyncio, kept fresh here.

Credentials change while an agent runs: service account tokens and client certificates rotate, exec plugins' tokens
expire, a kubeconfig is rewritten. `Credentials.current` reads them again when a file they came from has changed or
their time is near, and `renew` when the server has refused them; nobody restarts for it. A read that fails keeps
what there was, as it may still be good: the server is the judge.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.request import getproxies, proxy_bypass

from kubernetes_asyncio.client import Configuration
from kubernetes_asyncio.config.config_exception import ConfigException
from kubernetes_asyncio.config.incluster_config import (
    SERVICE_CERT_FILENAME,
    SERVICE_TOKEN_FILENAME,
    InClusterConfigLoader,
)
from kubernetes_asyncio.config.kube_config import ConfigNode, KubeConfigLoader, KubeConfigMerger
from yarl import URL

from shared.adapters.files import Fingerprint, fingerprint
from shared.observability.logs import get_logger
from shared.ports.cluster_api import ApiError

log = get_logger(__name__)

# How often the files are looked at, and how long before its end a credential is replaced.
CHECK_S: Final = 5.0
EXPIRY_MARGIN_S: Final = 60.0
# An exec plugin or an identity provider that hangs must not hang the agent.
LOAD_DEADLINE_S: Final = 30.0
# The least time between two reads because of refusals: a server that refuses everybody must not drive a plugin.
RENEW_PAUSE_S: Final = 5.0

_USER_FILES: Final = ("tokenFile", "client-certificate", "client-key")
_CLUSTER_FILES: Final = ("certificate-authority",)


class CredentialsError(ApiError):
    """The configuration cannot be read or makes no sense. Code 0: it may be put right, so a retry may help."""

    def __init__(self, message: str) -> None:
        super().__init__(0, "Credentials", message)


@dataclass(frozen=True, slots=True)
class Access:
    """What one request needs. `ssl` is None where the server speaks plain HTTP."""

    server: str
    authorization: str = field(default="", repr=False)
    ssl: ssl.SSLContext | None = None
    server_hostname: str | None = None
    proxy: str | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """One reading: what was read, from which files, and until when it is good (Unix seconds, None for ever)."""

    configuration: Any
    files: tuple[Path, ...]
    expires_at: float | None = None


Load = Callable[[bool], Awaitable[Loaded]]


class Credentials:
    """Access that stays fresh. `load(forced)` reads it; `forced` means that a cached plugin's token will not do."""

    def __init__(self, load: Load, access: Access, loaded: Loaded) -> None:
        self._load = load
        self._access = access
        self._files = loaded.files
        self._expires_at = loaded.expires_at
        self._fingerprint = fingerprint(loaded.files)
        self._contents = _contents(loaded.files)
        self._checked_at = self._renewed_at = time.monotonic()
        self._lock = asyncio.Lock()

    @classmethod
    async def open(cls, load: Load) -> Credentials:
        """Reads for the first time. Raises CredentialsError."""
        loaded, access = await _read(load, forced=False)
        credentials = cls(load, access, loaded)
        credentials._renewed_at = -RENEW_PAUSE_S
        return credentials

    @property
    def server(self) -> str:
        return self._access.server

    async def current(self) -> Access:
        """The access to use now; reads again only if something has changed."""
        if time.monotonic() - self._checked_at < CHECK_S:
            return self._access
        async with self._lock:
            self._checked_at = time.monotonic()
            if self._is_stale():
                await self._reload(forced=False)
        return self._access

    async def renew(self, refused: Access) -> bool:
        """The server refused this access: whether there is now another one, worth one more try."""
        async with self._lock:
            if self._access is refused and time.monotonic() - self._renewed_at >= RENEW_PAUSE_S:
                self._renewed_at = time.monotonic()
                await self._reload(forced=True)
            return self._access.authorization != refused.authorization or self._access.ssl is not refused.ssl

    def _is_stale(self) -> bool:
        if self._expires_at is not None and time.time() >= self._expires_at - EXPIRY_MARGIN_S:
            return True
        seen = fingerprint(self._files)
        if seen == self._fingerprint:
            return False
        if _contents(self._files) != self._contents:
            return True
        # A kubelet writes all files of a volume anew when one of them changes: others' connections stay.
        self._fingerprint = seen
        return False

    async def _reload(self, *, forced: bool) -> None:
        files, before, contents = self._files, fingerprint(self._files), _contents(self._files)
        try:
            loaded, access = await _read(self._load, forced=forced)
        except CredentialsError as error:
            log.warning("credentials kept: they cannot be read again", server=self.server, error=error.message)
            return
        self._access, self._files, self._expires_at = access, loaded.files, loaded.expires_at
        # Taken before the read: what changed meanwhile is seen at the next check.
        same = loaded.files == files
        self._fingerprint = before if same else fingerprint(loaded.files)
        self._contents = contents if same else _contents(loaded.files)
        log.info("credentials read again", server=self.server)


async def kubeconfig_credentials(path: Path, context: str | None = None) -> Credentials:
    """From a kubeconfig file, as kubernetes-asyncio reads it. Raises CredentialsError."""
    reader = _KubeconfigReader(path, context)
    return await Credentials.open(reader.load)


async def in_cluster_credentials(
    token_file: str = SERVICE_TOKEN_FILENAME, ca_file: str = SERVICE_CERT_FILENAME
) -> Credentials:
    """From the service account of the pod that this process runs in. Raises CredentialsError."""

    async def load(_: bool) -> Loaded:
        configuration = Configuration()
        InClusterConfigLoader(token_file, ca_file, try_refresh_token=False).load_and_set(configuration)
        return Loaded(configuration, (Path(token_file), Path(ca_file)))

    return await Credentials.open(load)


class _KubeconfigReader:
    """Keeps kubernetes-asyncio's loader while the file is the same, for the tokens that the loader caches."""

    def __init__(self, path: Path, context: str | None) -> None:
        self._path, self._context = path, context
        self._loader: Any = None
        self._fingerprint: Fingerprint = ()

    async def load(self, forced: bool) -> Loaded:
        seen = fingerprint((self._path,))
        if self._loader is None or seen != self._fingerprint:
            self._loader, self._fingerprint = self._open(), seen
        if forced and hasattr(self._loader, "exec_plugin_expiry"):
            del self._loader.exec_plugin_expiry
        configuration = Configuration()
        await self._loader.load_and_set(configuration)
        expiry = getattr(self._loader, "exec_plugin_expiry", None)
        return Loaded(configuration, self._files(), expiry.timestamp() if expiry is not None else None)

    def _open(self) -> Any:
        if not self._path.is_file():
            raise CredentialsError(f"{self._path} is not a file")
        merger = KubeConfigMerger(str(self._path))
        loader = KubeConfigLoader(config_dict=merger.config, active_context=self._context, config_base_path=None)
        if loader._user is None:
            # Without a user the loader fails on https: it looks for a client certificate in None.
            loader._user = ConfigNode("user", {}, str(self._path))
        return loader

    def _files(self) -> tuple[Path, ...]:
        base = self._path.absolute().parent
        user, cluster = self._loader._user.value, self._loader._cluster.value
        named = [user.get(key) for key in _USER_FILES] + [cluster.get(key) for key in _CLUSTER_FILES]
        return (self._path, *(base / str(name) for name in named if name))


async def _read(load: Load, *, forced: bool) -> tuple[Loaded, Access]:
    try:
        async with asyncio.timeout(LOAD_DEADLINE_S):
            loaded = await load(forced)
            return loaded, await asyncio.to_thread(_access, loaded.configuration)
    except CredentialsError:
        raise
    except TimeoutError as error:
        raise CredentialsError(f"not read within {LOAD_DEADLINE_S:.0f} s") from error
    except ConfigException as error:
        raise CredentialsError(str(error)) from error
    except Exception as error:
        # kubernetes-asyncio lets YAML, type, key and subprocess errors through for a malformed file.
        raise CredentialsError(f"{type(error).__name__}: {error}") from error


def _access(configuration: Any) -> Access:
    server = str(configuration.host).rstrip("/")
    url = URL(server)
    if url.scheme not in {"http", "https"} or not url.host:
        raise CredentialsError(f"{server[:200]!r} is not the URL of a server")
    token = str(configuration.api_key.get("BearerToken") or "").strip()
    return Access(
        server=server,
        authorization=token,
        ssl=_tls(configuration) if url.scheme == "https" else None,
        server_hostname=configuration.tls_server_name,
        proxy=configuration.proxy or _environment_proxy(url),
    )


def _tls(configuration: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, keyfile=configuration.key_file)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _environment_proxy(url: URL) -> str | None:
    """HTTPS_PROXY and NO_PROXY, as kubectl takes them; looked up once for each reading, not for each request."""
    host = f"{url.host}:{url.port}"
    return None if proxy_bypass(host) else getproxies().get(url.scheme)


def _contents(files: Iterable[Path]) -> tuple[bytes | None, ...]:
    return tuple(_digest(path) for path in files)


def _digest(path: Path) -> bytes | None:
    try:
        return hashlib.blake2b(path.read_bytes()).digest()
    except OSError:
        return None
