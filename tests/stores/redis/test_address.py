"""URLs of Redis say what is meant, or are refused in one line without their credentials."""

import pytest

from proxy.errors import SettingsError
from proxy.stores.redis.address import Address, parse


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://there", Address("there", 6379, "")),
        ("redis://there:7000/3", Address("there", 7000, "", db=3)),
        ("REDISS://u:p%40ss@[::1]:7000", Address("::1", 7000, "", "u", "p@ss", tls=True)),
        ("rediss://h?ssl_ca_certs=/ca.pem", Address("h", 6379, "", tls=True, ca="/ca.pem")),
        ("unix:///run/a%20b/s?db=2", Address("", 0, "/run/a b/s", db=2)),
        ("unix://:pass@/run/s?prefix=x:y", Address("", 0, "/run/s", password="pass", space="x:y")),
        ("redis://h?timeout=0.5", Address("h", 6379, "", timeout_s=0.5)),
    ],
)
def test_a_url_says_where_and_how(url: str, address: Address) -> None:
    assert parse(url) == address


@pytest.mark.parametrize(
    "rest",
    [
        "redis://u:SECRET@",
        "redis://u:SECRET@h:port",
        "redis://u:SECRET@h:99999",
        "redis://u:SECRET@h/x",
        "redis://u:SECRET@h/1/2",
        "redis://u:SECRET@h?timeout=0",
        "redis://u:SECRET@h?timeout=nan",
        "redis://u:SECRET@h?timeout=soon",
        "redis://u:SECRET@h?prefix=",
        "redis://u:SECRET@h?prefix={x}",
        "redis://u:SECRET@h?cache=9",
        "redis://u:SECRET@h?ssl_ca_certs=x",
        "redis://u:SECRET@h/0#x",
        "redis://u:SECRET@[::1",
        "unix://",
        "unix://:SECRET@relative/path",
        "unix://:SECRET@",
    ],
)
def test_a_wrong_url_is_refused_in_one_line_without_credentials(rest: str) -> None:
    with pytest.raises(SettingsError) as error:
        parse(rest)
    assert "SECRET" not in str(error.value)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("store: ")


def test_what_is_shown_holds_no_credentials() -> None:
    assert str(parse("redis://user:SECRET@h:1/2")) == "h:1"
    assert str(parse("redis://user:SECRET@[::1]")) == "[::1]:6379"
    assert str(parse("unix://user:SECRET@/s")) == "/s"
