"""Rows as this store keeps and joins them."""

from proxy.conversation.entry import Entry
from proxy.stores.rows import key_of, pack, pack_summary, unpack_all, unpack_one, unpack_summary

__all__ = ["key_of", "pack", "pack_summary", "unpack", "unpack_one", "unpack_summary"]


def unpack(count: int, run: bytes | None) -> list[Entry]:
    """`run` is so many rows joined by nothing; None where there are none."""
    return unpack_all(count, run or b"")
