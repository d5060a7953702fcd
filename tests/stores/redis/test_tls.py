"""A server that speaks TLS, with a certificate of a private authority: it is used, and no other is taken for it."""

import asyncio
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.errors import SettingsError
from proxy.stores import open_store
from tests.stores.making import REF, adding, entry, talk
from tests.support.redis import Server, serve


class Certificates:
    """Files of authorities, each with a certificate for the server; made by Debian's `openssl`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getitem__(self, name: str) -> Path:
        return self.folder / name

    def run(self, *words: str) -> None:
        subprocess.run(["openssl", *words], cwd=self.folder, check=True, capture_output=True)

    def make(self, name: str, host: str) -> None:
        """`NAME-ca.pem`, `NAME.pem` and `NAME.key`, for a server at `host`."""
        new = (
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            f"/CN={name}",
        )
        ca = (f"{name}-ca.key", f"{name}-ca.pem")
        self.run("req", "-x509", *new, "-keyout", ca[0], "-out", ca[1])
        self.run("req", *new, "-keyout", f"{name}.key", "-out", "csr")
        self[f"{name}.ext"].write_text(f"subjectAltName=IP:{host}\n")
        told = ("-CAkey", ca[0], "-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext")
        self.run("x509", "-req", "-in", "csr", "-CA", ca[1], *told, "-out", f"{name}.pem")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    if shutil.which("openssl") is None:
        pytest.fail("no openssl: install Debian's openssl to run the tests of TLS", pytrace=False)
    made = Certificates(tmp_path_factory.mktemp("tls"))
    made.make("own", "127.0.0.1")
    made.make("other", "127.0.0.1")
    made.make("elsewhere", "127.0.0.2")
    return made


def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def speaking(certificates: Certificates, name: str) -> Iterator[tuple[str, Server]]:
    at = port()
    lines = (
        f"tls-port {at}",
        f"tls-cert-file {certificates[f'{name}.pem']}",
        f"tls-key-file {certificates[f'{name}.key']}",
        f"tls-ca-cert-file {certificates[f'{name}-ca.pem']}",
        "tls-auth-clients no",
    )
    for server in serve(*lines):
        yield f"127.0.0.1:{at}", server


@pytest.fixture(scope="module")
def place(certificates: Certificates) -> Iterator[str]:
    for address, _ in speaking(certificates, "own"):
        yield address


@pytest.fixture(scope="module")
def misnamed(certificates: Certificates) -> Iterator[str]:
    for address, _ in speaking(certificates, "elsewhere"):
        yield address


async def test_a_store_over_tls_keeps_what_is_said_and_hears_of_those_who_leave(
    place: str, certificates: Certificates
) -> None:
    url = f"rediss://{place}?ssl_ca_certs={certificates['own-ca.pem']}"
    one, other = open_store(url), open_store(url)
    await one.open()
    await other.open()
    said = await talk(one, 3)
    # more than one record of TLS, both ways
    long = entry(said[-1], "long " * 400_000)
    await one.append(adding(REF, long))
    chain = await other.load(REF, key="", reach=None)
    assert chain is not None
    assert list(chain.entries) == [*said, long]
    assert (await one.line_up(REF, "a", keep_ms=60_000, wait=True)).ahead == 0
    assert (await other.line_up(REF, "b", keep_ms=60_000, wait=True)).ahead == 1
    async with asyncio.timeout(10):
        while not other._waiting.hearing:  # type: ignore[attr-defined]  # noqa: ASYNC110 - it is told nobody
            await asyncio.sleep(0.01)
        moved = asyncio.create_task(other.moved(REF, 60.0))
        await asyncio.sleep(0)
        one.step_out(REF, "a")
        await moved
    assert (await other.line_up(REF, "b", keep_ms=60_000, wait=True)).ahead == 0
    await other.ping()
    await one.close()
    await other.close()


@pytest.mark.parametrize(
    ("ca", "why"),
    [
        ("other-ca.pem", "certificate"),
        ("", "certificate"),
        ("none.pem", "none.pem"),
        ("own.ext", "own.ext"),
    ],
    ids=["another authority", "the system's", "no such file", "no certificates"],
)
async def test_a_server_that_is_not_trusted_is_refused_in_one_line(
    place: str, certificates: Certificates, ca: str, why: str
) -> None:
    options = f"?ssl_ca_certs={certificates[ca]}" if ca else ""
    store = open_store(f"rediss://u:SECRET@{place}{options}")
    with pytest.raises(SettingsError) as error:
        await store.open()
    line = str(error.value)
    assert line.startswith("store: ")
    assert why in line
    assert place in line or ca in line
    assert "\n" not in line
    assert "SECRET" not in line
    assert "ssl_ca_certs" in line


async def test_a_certificate_for_another_host_is_refused(misnamed: str, certificates: Certificates) -> None:
    store = open_store(f"rediss://{misnamed}?ssl_ca_certs={certificates['elsewhere-ca.pem']}")
    with pytest.raises(SettingsError, match=r"^store: Redis at .*not trusted \(IP address mismatch.*the host"):
        await store.open()


@pytest.mark.parametrize("spoken", ["redis", "rediss"])
async def test_one_speaks_tls_and_the_other_does_not(place: str, certificates: Certificates, spoken: str) -> None:
    """The server speaks TLS only, or not at all."""
    if spoken == "redis":
        store = open_store(f"redis://{place}?timeout=2")
        with pytest.raises(SettingsError) as error:
            await store.open()
    else:
        for plain in serve(port=port()):
            store = open_store(f"rediss://127.0.0.1:{plain.port}?timeout=2&ssl_ca_certs={certificates['own-ca.pem']}")
            with pytest.raises(SettingsError) as error:
                await store.open()
    assert "\n" not in str(error.value)
    assert "Redis at 127.0.0.1:" in str(error.value)
