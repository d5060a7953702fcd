"""Metadata: just what the API allows is taken."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import InvalidBody
from proxy.resources.metadata import metadata


@given(st.dictionaries(st.text(max_size=64), st.text(max_size=512), max_size=16))
def test_up_to_sixteen_pairs_of_short_strings_are_kept(value: dict[str, str]) -> None:
    assert metadata(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")) == value


def test_null_is_none() -> None:
    assert metadata(b"null") == {}


@pytest.mark.parametrize(
    "raw",
    [
        b"[]",
        b'"x"',
        b"1",
        b'{"k":1}',
        b'{"k":null}',
        b'{"k":{}}',
        b'{"k":"\\ud800"}',
        b'{"%b":"v"}' % (b"k" * 65),
        b'{"k":"%b"}' % (b"v" * 513),
        b"{%b}" % b",".join(b'"%d":""' % n for n in range(17)),
    ],
)
def test_anything_else_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidBody) as refused:
        metadata(raw)
    assert refused.value.param == "metadata"
