"""Which headers travel is a law over any headers; credentials are found and exchanged in one fixed order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from proxy.errors import InvalidHeader
from proxy.upstream.headers import (
    CREDENTIALS,
    HOP_BY_HOP,
    SECRET,
    credential,
    key_of,
    to_client,
    to_upstream,
    with_upstream_key,
)

TOKEN = st.text("abcDEF019!#$%&'*+-.^_`|~", min_size=1, max_size=12)
KNOWN = st.sampled_from(
    [*sorted(HOP_BY_HOP), "Host", "expect", "X-Session-Id", "x-session-from", "X-Conversation", "Accept", "X-A", "x-a"]
)
NAME = st.one_of(TOKEN, KNOWN, KNOWN.map(str.upper), KNOWN.map(str.title))
VALUE = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="\x7f"), max_size=20)
HEADERS = st.lists(st.tuples(NAME, VALUE), max_size=12)
SESSION = frozenset({"x-conversation"})


def expected(headers: list[tuple[str, str]], stays: set[str], prefix: str) -> list[tuple[str, str]]:
    """The same rule, told one header at a time."""
    named = {
        part.strip(" \t").lower()
        for name, value in headers
        if name.lower() == "connection"
        for part in value.split(",")
    }
    return [
        (name, value)
        for name, value in headers
        if name.lower() not in stays | named and not (prefix and name.lower().startswith(prefix))
    ]


@given(HEADERS)
def test_a_request_loses_what_belongs_to_its_connection_and_to_this_proxy_and_nothing_else(
    headers: list[tuple[str, str]],
) -> None:
    """Names keep their spelling, repeats their order."""
    travelling = to_upstream(CIMultiDictProxy(CIMultiDict(headers)), SESSION)
    assert list(travelling.items()) == expected(headers, {*HOP_BY_HOP, "host", "expect", *SESSION}, "x-session-")


@given(HEADERS)
def test_a_reply_loses_what_belongs_to_its_connection_and_nothing_else(headers: list[tuple[str, str]]) -> None:
    travelling = to_client(CIMultiDictProxy(CIMultiDict(headers)))
    assert list(travelling.items()) == expected(headers, set(HOP_BY_HOP), "")


def test_the_headers_given_are_left_as_they_are() -> None:
    headers = CIMultiDict([("Host", "h"), ("Connection", "x-a"), ("X-A", "1")])
    to_upstream(headers)
    to_client(CIMultiDictProxy(headers))
    assert list(headers.items()) == [("Host", "h"), ("Connection", "x-a"), ("X-A", "1")]


def test_a_request_value_that_is_not_utf8_is_refused_by_the_header_s_name() -> None:
    value = b"caf\xe9".decode("utf-8", "surrogateescape")
    with pytest.raises(InvalidHeader, match="X-Name") as caught:
        to_upstream(CIMultiDict([("X-Name", value)]))
    assert "caf" not in caught.value.message


def test_a_reply_value_that_is_not_utf8_is_latin_1() -> None:
    value = b"caf\xe9".decode("utf-8", "surrogateescape")
    assert list(to_client(CIMultiDictProxy(CIMultiDict([("A", value), ("A", "ü")]))).items()) == [
        ("A", "café"),
        ("A", "ü"),
    ]


@pytest.mark.parametrize("at", range(len(CREDENTIALS)))
def test_the_first_credential_in_the_fixed_order_counts(at: int) -> None:
    headers = CIMultiDict((name.upper(), f"key-{name}") for name in reversed(CREDENTIALS[at:]))
    assert credential(headers) == (CREDENTIALS[at], f"key-{CREDENTIALS[at]}")


def test_an_empty_credential_is_none() -> None:
    assert credential(CIMultiDict({"Authorization": ""})) is None
    assert credential(CIMultiDict({"Authorization": "", "api-key": "k"})) == ("api-key", "k")


def test_the_bare_key_is_taken_out_of_a_bearer_credential() -> None:
    assert key_of("Authorization", "bearer  k 1 ") == "k 1"
    assert key_of("Authorization", "Basic abc") == "Basic abc"
    assert key_of("api-key", "Bearer k") == "Bearer k"


def test_the_upstream_s_key_stands_where_the_client_s_stood() -> None:
    headers = CIMultiDict([("X-API-Key", "mine"), ("A", "1")])
    with_upstream_key(headers, "theirs")
    assert sorted(headers.items()) == [("A", "1"), ("x-api-key", "theirs")]


def test_without_a_credential_the_upstream_s_key_is_a_bearer_token() -> None:
    headers: CIMultiDict[str] = CIMultiDict()
    with_upstream_key(headers, "theirs")
    assert list(headers.items()) == [("Authorization", "Bearer theirs")]


@given(st.lists(st.tuples(st.sampled_from(CREDENTIALS), st.text("abc", min_size=1)), max_size=6))
def test_no_credential_of_the_client_is_left_beside_the_upstream_s(headers: list[tuple[str, str]]) -> None:
    exchanged = CIMultiDict(headers)
    with_upstream_key(exchanged, "THEIRS")
    left = [value for name, value in exchanged.items() if name.lower() in SECRET]
    assert left in (["THEIRS"], ["Bearer THEIRS"])


def test_every_credential_and_cookie_is_secret() -> None:
    assert {name.lower() for name in CREDENTIALS} | {"cookie", "set-cookie"} <= SECRET
