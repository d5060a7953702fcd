"""Whose data a request is about."""

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from proxy.errors import InvalidHeader, Unauthorized
from proxy.exchange.tenant import Tenants

NONE: CIMultiDictProxy[str] = CIMultiDictProxy(CIMultiDict())
SECRET = b"s" * 32


def test_a_credential_names_a_tenant_by_a_keyed_hash() -> None:
    tenants = Tenants("credential", (), SECRET)
    one, two = tenants.of("key-1", NONE), tenants.of("key-2", NONE)
    assert one == tenants.of("key-1", NONE)
    assert one.name != two.name
    assert one.digest_key != two.digest_key
    assert "key-1" not in one.name
    assert Tenants("credential", (), b"t" * 32).of("key-1", NONE).name != one.name


def test_no_credential_is_a_tenant_of_its_own() -> None:
    tenants = Tenants("credential", (), SECRET)
    assert tenants.of(None, NONE).name == "anonymous"


def test_shared_is_one_tenant() -> None:
    tenants = Tenants("shared", (), SECRET)
    assert tenants.of("a", NONE) == tenants.of("b", NONE)


def test_a_header_names_the_tenant() -> None:
    tenants = Tenants("header:X-Tenant", (), SECRET)
    assert tenants.of("a", CIMultiDictProxy(CIMultiDict({"x-tenant": "acme"}))).name == "acme"
    for bad in ("", "x" * 257, "a\x7f"):
        with pytest.raises(InvalidHeader):
            tenants.of("a", CIMultiDictProxy(CIMultiDict({"x-tenant": bad})))


def test_proxy_keys_admit_their_owners_only() -> None:
    tenants = Tenants("credential", (("anna", "ka"), ("bert", "kb")), SECRET)
    assert tenants.of("ka", NONE).name == "anna"
    assert tenants.admit("kb") == "bert"
    for wrong in (None, "", "k", "ka ", "anna", "\udcff"):
        with pytest.raises(Unauthorized):
            tenants.admit(wrong)
