"""Pages of a list: what a query asks for, and the list object that answers it, as OpenAI's APIs have them."""

from collections.abc import Mapping, Sequence

import msgspec
import orjson

from proxy.errors import InvalidBody

DEFAULT, AT_MOST = 20, 100
"""Items of a page."""


class Page(msgspec.Struct, frozen=True):
    """What a client asks to see of a list."""

    limit: int
    """From 1 to `AT_MOST`."""
    order: str
    """`asc` or `desc`."""
    after: str | None
    """The id of the item that the page goes on behind; None: from the start."""

    @property
    def newest_first(self) -> bool:
        return self.order == "desc"


def page(query: Mapping[str, str], *, order: str = "desc") -> Page:
    """`order`: what counts where the query names none. Raises InvalidBody with the parameter's name."""
    limit = query.get("limit", str(DEFAULT))
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 3 and 1 <= int(limit) <= AT_MOST):
        raise InvalidBody(f"limit is a number from 1 to {AT_MOST}.", param="limit")
    order = query.get("order", order)
    if order not in ("asc", "desc"):
        raise InvalidBody("order is asc or desc.", param="order")
    return Page(int(limit), order, query.get("after"))


def listing(items: Sequence[bytes | msgspec.Raw], ids: Sequence[str], has_more: bool) -> bytes:
    """The list object. `items` are JSON objects, `ids` theirs."""
    return b'{"object":"list","data":[%b],"first_id":%b,"last_id":%b,"has_more":%b}' % (
        b",".join(items),
        orjson.dumps(ids[0] if ids else None),
        orjson.dumps(ids[-1] if ids else None),
        b"true" if has_more else b"false",
    )


def paged(items: Sequence[bytes | msgspec.Raw], ids: Sequence[str], page: Page) -> bytes:
    """The page of a list that is all there, oldest first. Raises InvalidBody where `after` names none of it."""
    if page.newest_first:
        items, ids = items[::-1], ids[::-1]
    start = 0
    if page.after is not None:
        if page.after not in ids:
            raise unknown_after(page.after)
        start = ids.index(page.after) + 1
    stop = start + page.limit
    return listing(items[start:stop], ids[start:stop], stop < len(items))


def unknown_after(after: str) -> InvalidBody:
    return InvalidBody(f"There is no item '{after[:100]}' to go on after.", param="after")
