"""Flags beat variables, variables beat defaults; every wrong value is one line that names itself and the way out."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import SettingsError
from proxy.settings import VARIABLES, Settings, loopback, read, store

UP = {"REMORA_UPSTREAM": "https://api.example.com"}


def mistakes(flags: dict[str, str | None], environ: dict[str, str]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read(flags, environ)
    return str(caught.value).splitlines()


def test_the_defaults_are_those_of_the_readme() -> None:
    assert read({}, UP) == Settings(upstream="https://api.example.com")
    settings = read({}, UP)
    assert settings.listen == ("127.0.0.1", 8080)
    assert settings.admin == ("127.0.0.1", 9901)
    assert settings.store == "sqlite:///remora.db"
    assert settings.max_body_bytes == 32 << 20


def test_a_flag_beats_its_variable_and_an_empty_variable_is_unset() -> None:
    settings = read(
        {"--listen": "127.0.0.1:1", "--admin": None},
        {**UP, "REMORA_LISTEN": "127.0.0.1:2", "REMORA_ADMIN": "127.0.0.1:3", "REMORA_STORE": ""},
    )
    assert (settings.listen[1], settings.admin[1], settings.store) == (1, 3, "sqlite:///remora.db")


def test_every_variable_reaches_its_setting(tmp_path: object) -> None:
    settings = read(
        {},
        {
            "REMORA_UPSTREAM": "http://h:1/openai/",
            "REMORA_LISTEN": "[::1]:80",
            "REMORA_ADMIN": "localhost:0",
            "REMORA_STORE": "memory:",
            "REMORA_POLICIES": str(tmp_path),
            "REMORA_UPSTREAM_API_KEY": "sk-up",
            "REMORA_API_KEYS": "ann:k1, bob:k:2,ann:k3",
            "REMORA_TENANT": "header:X-Tenant",
            "REMORA_CONNECT_TIMEOUT": "1s",
            "REMORA_FIRST_BYTE_TIMEOUT": "2m",
            "REMORA_IDLE_TIMEOUT": "3",
            "REMORA_STOP_TIMEOUT": "1h",
            "REMORA_MAX_BODY": "1MiB",
            "REMORA_MAX_EXCHANGES": "7",
            "REMORA_MAX_QUEUE": "0",
        },
    )
    assert settings == Settings(
        upstream="http://h:1/openai",
        listen=("::1", 80),
        admin=("localhost", 0),
        store="memory:",
        policies=str(tmp_path),
        upstream_api_key="sk-up",
        api_keys=(("ann", "k1"), ("bob", "k:2"), ("ann", "k3")),
        tenant="header:X-Tenant",
        connect_timeout_s=1,
        first_byte_timeout_s=120,
        idle_timeout_s=3,
        stop_timeout_s=3600,
        max_body_bytes=1 << 20,
        max_exchanges=7,
        max_queue=0,
    )


def test_workers_need_a_store_that_they_can_share() -> None:
    assert read({"--workers": "4"}, UP).workers == 4
    assert read({}, {**UP, "REMORA_WORKERS": "2", "REMORA_STORE": "redis://h"}).workers == 2
    assert read({}, {**UP, "REMORA_WORKERS": "1", "REMORA_STORE": "memory:"}).workers == 1
    (line,) = mistakes({"--workers": "2"}, {**UP, "REMORA_STORE": "memory:"})
    assert line.startswith("--workers: 2 workers cannot share store memory:")


@pytest.mark.parametrize(
    ("name", "least", "wrong"),
    [
        ("REMORA_WORKERS", "1", ("0", "257", "-1", "1.5", "two", "²", "1" * 5000)),
        ("REMORA_MAX_EXCHANGES", "1", ("0", "1000001", "1e3")),
        ("REMORA_MAX_QUEUE", "0", ("-1", "1000001")),
    ],
)
def test_counts_are_whole_numbers_within_bounds(name: str, least: str, wrong: tuple[str, ...]) -> None:
    read({}, {**UP, name: least})
    for value in wrong:
        (line,) = mistakes({}, {**UP, name: value})
        assert line.startswith(f"{name}: ")
        assert "is no whole number from" in line
        assert len(line) < 200


def test_no_upstream_says_what_to_set_unless_none_is_needed() -> None:
    (line,) = mistakes({}, {})
    assert "REMORA_UPSTREAM" in line
    assert "echo:" in line
    assert read({}, {}, need_upstream=False).upstream == ""
    assert read({"--upstream": "echo:"}, {}).upstream == "echo:"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.openai.com",
        "ftp://x",
        "https://",
        "https:///v1",
        "https://h:99999",
        "https://[::1",
        "https://h/?a=1",
        "https://h/#f",
        "https://h/?",
        "https://h/a b",
        "https://h/\ta",
        "https://hé",
        "echo://x",
        "ECHO:",
    ],
)
def test_what_is_no_upstream_url_is_refused(url: str) -> None:
    (line,) = mistakes({"--upstream": url}, {})
    assert line.startswith("--upstream: ")


def test_secrets_in_a_wrong_value_are_not_repeated() -> None:
    (line,) = mistakes({}, {"REMORA_UPSTREAM": "https://me:hunter2@h"})
    assert "hunter2" not in line
    assert "REMORA_UPSTREAM_API_KEY" in line
    for wrong in ("hunter2", "ann:hunter2,x", "a b:hunter2", "ann:hunter2,bob:hunter2", ":hunter2"):
        (line,) = mistakes({"--upstream": "echo:"}, {"REMORA_API_KEYS": wrong})
        assert line.startswith("REMORA_API_KEYS: entry ")
        assert "hunter2" not in line
    (line,) = mistakes({}, {**UP, "REMORA_UPSTREAM_API_KEY": "hunter2 x"})
    assert "hunter2" not in line
    keys = {**UP, "REMORA_UPSTREAM_API_KEY": "hunter2", "REMORA_API_KEYS": "a:hunter3"}
    assert "hunter" not in repr(read({}, keys))


@pytest.mark.parametrize("text", ["8080", "h:", ":8080", "h:x", "h:65536", "h:-1", "::1:80", "h:٣", "[::1]"])
def test_what_is_no_address_is_refused(text: str) -> None:
    for flag in ("--listen", "--admin"):
        (line,) = mistakes({flag: text}, UP)
        assert line.startswith(flag + ": ")
        assert "write" in line


def test_every_mistake_is_told_each_in_one_line_under_the_name_it_was_given_by() -> None:
    lines = mistakes(
        {"--listen": "x", "--policies": "/no/such"},
        {**UP, "REMORA_ADMIN": "y", "REMORA_IDLE_TIMEOUT": "soon", "REMORA_MAX_BODY": "big", "REMORA_TENANT": "z",
         "REMORA_STORE": "remora.db"},
    )  # fmt: skip
    names = ["--listen", "REMORA_ADMIN", "REMORA_STORE", "--policies", "REMORA_TENANT", "REMORA_IDLE_TIMEOUT"]
    assert [line.partition(":")[0] for line in lines] == [*names, "REMORA_MAX_BODY"]


def test_the_default_policy_folder_need_not_exist(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(str(tmp_path))
    assert read({}, UP).policies == "policies"
    assert mistakes({}, {**UP, "REMORA_POLICIES": "policies"}) != []


def test_an_unknown_variable_is_told_with_the_nearest_name() -> None:
    (line,) = mistakes({}, {**UP, "REMORA_POLICY": "x", "HOME": "/"})
    assert "REMORA_POLICY:" in line
    assert "REMORA_POLICIES" in line
    (line,) = mistakes({}, {**UP, "REMORA_PORT": "8080"})
    assert "REMORA_PORT" in line


def test_the_variables_that_kubernetes_injects_are_no_mistakes() -> None:
    read(
        {},
        {
            **UP,
            "REMORA_SERVICE_HOST": "10.0.0.1",
            "REMORA_SERVICE_PORT": "8080",
            "REMORA_SERVICE_PORT_HTTP": "8080",
            "REMORA_PORT": "tcp://10.0.0.1:8080",
            "REMORA_PORT_8080_TCP": "tcp://10.0.0.1:8080",
            "REMORA_PORT_8080_TCP_PROTO": "tcp",
            "REMORA_ADMIN_PORT_9901_TCP_ADDR": "10.0.0.1",
            "REMORA_ADMIN_PORT": "tcp://10.0.0.1:9901",
        },
    )


def test_proxy_keys_need_the_upstreams_credential_except_on_echo() -> None:
    (line,) = mistakes({}, {**UP, "REMORA_API_KEYS": "ann:k"})
    assert "REMORA_UPSTREAM_API_KEY" in line
    assert read({"--upstream": "echo:"}, {"REMORA_API_KEYS": "ann:k"}).api_keys == (("ann", "k"),)


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "10.0.0.1", "example.com"])
def test_a_credential_is_not_offered_beyond_loopback_without_keys(host: str) -> None:
    environ = {**UP, "REMORA_UPSTREAM_API_KEY": "k", "REMORA_LISTEN": f"{host}:1"}
    (line,) = mistakes({}, environ)
    assert line.startswith("REMORA_LISTEN: ")
    assert "REMORA_API_KEYS" in line
    read({}, {**environ, "REMORA_API_KEYS": "ann:k"})
    read({}, {**environ, "REMORA_UPSTREAM_API_KEY": ""})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_is_known(host: str) -> None:
    assert loopback(host)
    address = f"[{host}]:1" if ":" in host else f"{host}:1"
    assert read({"--listen": address}, {**UP, "REMORA_UPSTREAM_API_KEY": "k"}).listen == (host, 1)


@pytest.mark.parametrize(
    ("listen", "admin", "shared"),
    [
        ("127.0.0.1:1", "127.0.0.1:1", True),
        ("0.0.0.0:1", "127.0.0.1:1", True),
        ("127.0.0.1:1", "[::]:1", True),
        ("127.0.0.1:1", "127.0.0.2:1", False),
        ("127.0.0.1:0", "127.0.0.1:0", False),
    ],
)
def test_clients_and_administration_never_share_a_port(listen: str, admin: str, shared: bool) -> None:
    flags: dict[str, str | None] = {"--upstream": "echo:", "--listen": listen, "--admin": admin}
    if shared:
        (line,) = mistakes(flags, {})
        assert "never share" in line
    else:
        read(flags, {})


def test_the_store_is_read_alone() -> None:
    assert store(None, {"REMORA_STORE": "memory:", "REMORA_TYPO": "x"}) == "memory:"
    assert store("sqlite:///a", {"REMORA_STORE": "memory:"}) == "sqlite:///a"
    with pytest.raises(SettingsError, match="--store"):
        store("a.db", {})


@given(st.dictionaries(st.sampled_from(VARIABLES), st.text(max_size=30)))
def test_any_values_give_settings_or_named_mistakes(environ: dict[str, str]) -> None:
    try:
        settings = read({}, environ)
    except SettingsError as error:
        for line in str(error).splitlines():
            assert re.match(r"(--[a-z-]+|REMORA_[A-Z_]+): \S", line)
            assert line.endswith(".")
    else:
        assert settings.upstream
