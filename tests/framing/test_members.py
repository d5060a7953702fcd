"""Members keep their bytes and places, and no body gets by in which a name counts twice."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import InvalidBody
from proxy.framing.members import Members

NAMES = st.text(st.sampled_from('ab"\\{}:, é\n\u0000'), max_size=3) | st.sampled_from(["messages", "n", ""])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.sampled_from('ab"\\{}[]:, é\n'), max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=5,
)
SPACE = st.sampled_from([b"", b"", b" ", b"\n\t", b"\r\n  "])


@st.composite
def bodies(draw: st.DrawFn, *, twice: bool) -> tuple[bytes, list[tuple[str, bytes]]]:
    """A body in some spelling, and its members as (name, raw value)."""
    members = [
        (name, json.dumps(value))
        for name, value in draw(st.dictionaries(NAMES, VALUES, min_size=twice, max_size=5)).items()
    ]
    if twice:
        name = draw(st.sampled_from(members))[0]
        members.insert(draw(st.integers(0, len(members))), (name, json.dumps(draw(VALUES))))
    style = draw(st.sampled_from(["compact", "spaced", "any"]))
    ascii = draw(st.booleans())
    pieces = []
    for name, value in members:
        spelled = json.dumps(name, ensure_ascii=ascii).encode()
        if style == "any" and draw(st.booleans()) and name:
            spelled = b'"' + b"".join(b"\\u%04x" % ord(char) for char in name) + b'"'
        colon, comma = {"compact": (b":", b","), "spaced": (b": ", b", ")}.get(style, (b"", b""))
        if style == "any":
            colon, comma = (b"".join((draw(SPACE), sign, draw(SPACE))) for sign in (b":", b","))
        pieces.append((b"%b%b%b" % (spelled, colon, value.encode()), comma))
    body = b"".join(piece + (comma if at + 1 < len(pieces) else b"") for at, (piece, comma) in enumerate(pieces))
    body = b"{%b}" % body
    if style == "any":
        body = draw(SPACE) + b"{" + draw(SPACE) + body[1:-1] + draw(SPACE) + b"}" + draw(SPACE)
    return body, [(name, value.encode()) for name, value in members]


@settings(max_examples=150, deadline=None)
@given(bodies(twice=False), st.binary(max_size=5))
def test_members_keep_their_bytes_and_places(body: tuple[bytes, list[tuple[str, bytes]]], value: bytes) -> None:
    raw, expected = body
    members = Members(raw)
    assert members.names() == [name for name, _ in expected]
    for name, held in expected:
        assert members.get(name) == held
        assert members.replace(name, held) == raw
        replaced = members.replace(name, b"[7777777]")
        assert json.loads(replaced) == {**json.loads(raw), name: [7777777]}
        assert len(replaced) == len(raw) - len(held) + 9
    assert members.get("not there") is None


@settings(max_examples=150, deadline=None)
@given(bodies(twice=True))
def test_a_name_that_counts_twice_is_refused(body: tuple[bytes, list[tuple[str, bytes]]]) -> None:
    with pytest.raises(InvalidBody):
        Members(body[0])


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b'"x"', b"1", b"{", b"{}x", b'{"a":1,}', b'{"a" 1}', b"{'a':1}", b"\xef\xbb\xbf{}",
        b'{"a":1,"a":1}', b'{"a":1,"b":2,"a":1}', b'{"a":1,"\\u0061":1}', b'{"a": 1, "a": 1}', b'{"":1,"":2}',
        b'{"a": {"x":1,"b":5},"b":5,"a":1234567}', b'{"a":[1,2],"b":"],","a":[1]}',
        b'{"a":"\xff"}', b'{"\xff":1}', b'{"a":"\xed\xa0\x80"}', b'{"a":"\\ud800"}', b'{"a":[{"b":"\\udc00"}]}',
        b'{"\\ud800":1}',
        b'{"a":NaN}', b'{"a":01}', b'{"a":"\n"}', b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)  # fmt: skip
def test_what_is_not_one_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidBody) as refused:
        Members(body)
    assert refused.value.status == 400


def test_replacing_a_member_that_is_not_there_is_an_error() -> None:
    for body in (b"{}", b'{"a":1}', b'{"a": 1, "b": 2}', b'{ "a":1}'):
        with pytest.raises(KeyError):
            Members(body).replace("c", b"1")


def test_numbers_and_escapes_survive() -> None:
    body = b'{"a":1.0,"m":1,"n":123456789012345678901234567890,"s":"\\u0041\\/"}'
    assert Members(body).replace("m", b"[]") == body.replace(b'"m":1', b'"m":[]')
    assert Members(body).get("s") == b'"\\u0041\\/"'
