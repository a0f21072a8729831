"""Files of TLS that are renewed under a client, by real handshakes with a server that asks for a certificate."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from shared.adapters.tls import ClientTls
from tests.testbed.pki import Authority, KeyPair

HOST = "127.0.0.1"


class Server:
    """`seen` has the serial numbers of the certificates that came."""

    def __init__(self, port: int, seen: asyncio.Queue[str]) -> None:
        self.port = port
        self.seen = seen


@asynccontextmanager
async def serving(authority: Authority, clients: Authority) -> AsyncIterator[Server]:
    pair = authority.server("server", (HOST,))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(clients.files.certificate))
    context.load_cert_chain(pair.certificate, pair.key)
    context.verify_mode = ssl.CERT_REQUIRED
    seen: asyncio.Queue[str] = asyncio.Queue()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.put_nowait(writer.get_extra_info("peercert")["serialNumber"])
        writer.close()

    server = await asyncio.start_server(serve, HOST, 0, ssl=context)
    async with server:
        yield Server(server.sockets[0].getsockname()[1], seen)


async def serial_seen(server: Server, context: ssl.SSLContext) -> str:
    """Of the certificate by which the client came. Raises ssl.SSLError if the handshake fails."""
    async with asyncio.timeout(10):
        _, writer = await asyncio.open_connection(HOST, server.port, ssl=context)
        try:
            return await server.seen.get()
        finally:
            writer.close()


def opened(authority: Path, pair: KeyPair) -> ClientTls:
    context = ClientTls(str(authority), str(pair.certificate), str(pair.key))
    context.trust()
    context.identify()
    return context


async def test_a_renewed_certificate_is_used_from_the_next_connection_on(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "pki", "authority")
    pair = authority.client("watcher")
    context = opened(authority.files.certificate, pair)
    async with serving(authority, authority) as server:
        first = await serial_seen(server, context)
        assert await serial_seen(server, context) == first
        authority.client("watcher")  # the same files, written anew
        assert await serial_seen(server, context) != first


async def test_until_certificate_and_key_fit_the_old_pair_is_used(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "pki", "authority")
    made = authority.client("watcher")
    pair = KeyPair(tmp_path / "tls.crt", tmp_path / "tls.key")
    shutil.copy(made.certificate, pair.certificate)
    shutil.copy(made.key, pair.key)
    context = opened(authority.files.certificate, pair)
    async with serving(authority, authority) as server:
        first = await serial_seen(server, context)
        authority.client("watcher")
        shutil.copy(made.certificate, pair.certificate)
        assert await serial_seen(server, context) == first
        shutil.copy(made.key, pair.key)
        assert await serial_seen(server, context) != first


async def test_a_server_of_an_authority_that_was_added_is_trusted(tmp_path: Path) -> None:
    old, new = Authority(tmp_path / "old", "old"), Authority(tmp_path / "new", "new")
    bundle = tmp_path / "ca.crt"
    shutil.copy(old.files.certificate, bundle)
    context = opened(bundle, old.client("watcher"))
    async with serving(new, old) as server:
        with pytest.raises(ssl.SSLCertVerificationError):
            await serial_seen(server, context)
        bundle.write_bytes(old.files.certificate.read_bytes() + new.files.certificate.read_bytes())
        assert await serial_seen(server, context)


def test_what_is_not_there_at_the_start_is_an_error(tmp_path: Path) -> None:
    missing = str(tmp_path / "none")
    with pytest.raises(OSError, match="No such file"):
        ClientTls(missing).trust()
    with pytest.raises(OSError, match="No such file"):
        ClientTls("", missing, missing).identify()


def test_names_and_certificates_of_servers_are_checked() -> None:
    context = ClientTls()
    context.trust()
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
