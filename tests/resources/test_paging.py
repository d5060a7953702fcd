"""Pages: every way through a list shows each item once, in order; wrong queries are refused by name."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import InvalidBody
from proxy.resources.paging import AT_MOST, DEFAULT, Page, listing, page, paged


@given(
    count=st.integers(0, 40),
    limit=st.integers(1, 12),
    order=st.sampled_from(["asc", "desc"]),
    default=st.sampled_from(["asc", "desc"]),
    said=st.booleans(),
)
def test_walking_from_page_to_page_shows_each_item_once_in_order(
    count: int, limit: int, order: str, default: str, said: bool
) -> None:
    ids = [f"item_{at}" for at in range(count)]
    items = [msgspec.json.encode({"id": id, "at": at}) for at, id in enumerate(ids)]
    query = {"limit": str(limit)} | ({"order": order} if said else {})
    seen: list[dict[str, object]] = []
    while True:
        made = json.loads(paged(items, ids, page(query, order=default)))
        data = made["data"]
        assert made["object"] == "list"
        assert (made["first_id"], made["last_id"]) == ((data[0]["id"], data[-1]["id"]) if data else (None, None))
        assert made["has_more"] == (len(seen) + len(data) < count)
        seen += data
        if not made["has_more"]:
            break
        assert len(data) == limit
        query["after"] = made["last_id"]
    expected = [{"id": id, "at": at} for at, id in enumerate(ids)]
    assert seen == (expected if (order if said else default) == "asc" else expected[::-1])


def test_a_query_that_says_nothing_asks_for_the_newest_twenty() -> None:
    assert page({}) == Page(DEFAULT, "desc", None) == Page(20, "desc", None)
    assert page({}, order="asc").order == "asc"
    assert page({"limit": str(AT_MOST), "after": "x"}) == Page(100, "desc", "x")


@pytest.mark.parametrize(
    ("query", "param"),
    [
        *(({"limit": limit}, "limit") for limit in ("0", "101", "-1", "", "ten", "1.0", "²", "٣", "9" * 5000, "0020")),
        *(({"order": order}, "order") for order in ("", "ASC", "up")),
    ],
)
def test_what_is_no_page_is_refused_by_the_name_of_the_parameter(query: dict[str, str], param: str) -> None:
    with pytest.raises(InvalidBody) as refused:
        page(query)
    assert refused.value.param == param


def test_an_unknown_place_to_go_on_after_is_refused() -> None:
    for after in ("", "nothing"):
        with pytest.raises(InvalidBody) as refused:
            paged([b'{"id":"a"}'], ["a"], page({"after": after}))
        assert refused.value.param == "after"


def test_items_and_ids_keep_their_bytes() -> None:
    item = b'{"id":"\\u00fc\\"x", "n":1.0}'
    made = listing([item, msgspec.Raw(item)], ['ü"x', 'ü"x'], True)
    assert made.count(item) == 2
    assert json.loads(made)["first_id"] == 'ü"x'
    assert json.loads(made)["has_more"] is True
