"""What a server refuses is told in one line that says what to do."""

import pytest

from proxy.errors import StoreUnavailable
from proxy.stores.redis.address import parse
from proxy.stores.redis.refusal import MEANINGS, Refusal

AT = parse("redis://user:SECRET@h")


@pytest.mark.parametrize("kind", MEANINGS)
def test_each_has_its_meaning(kind: str) -> None:
    refusal = Refusal(f"{kind} the server's own words SECRET", AT)
    assert isinstance(refusal, StoreUnavailable)
    assert refusal.kind == kind
    assert refusal.message == f"Redis at h:6379 {MEANINGS[kind]}."
    assert refusal.elsewhere is (kind in ("READONLY", "MASTERDOWN"))


def test_what_is_not_known_is_told_without_what_was_sent() -> None:
    said = Refusal("ERR unknown command 'X', with args beginning with: 'SECRET'", AT).message
    assert "SECRET" not in said
    assert "(ERR)" in said
    assert "password" in Refusal("ERR AUTH <password> called without any password configured", AT).message
    assert "maxclients" in Refusal("ERR max number of clients reached", AT).message
