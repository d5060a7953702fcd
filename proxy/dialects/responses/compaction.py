"""The answer to a request for compaction: what the users said, word for word, and an item that stands for the rest."""

from collections.abc import Sequence

import orjson

from proxy.conversation.reply import Reply
from proxy.dialects.responses.items import PREFIXES
from proxy.dialects.responses.reply import item_id, usage
from proxy.dialects.responses.sealed import SUMMARY, seal


def compacted(items: Sequence[bytes], summary: str, id: str, created_at: int, reply: Reply) -> dict[str, object]:
    """`CompactedResponse` of the public SDK. `reply` tells what the summary cost, 0 for what it does not say."""
    output = [item for item in map(orjson.loads, items) if item["type"] == "message" and item["role"] == "user"]
    sealed = {
        "id": item_id(PREFIXES["compaction"], id, len(output)),
        "type": "compaction",
        "encrypted_content": seal(SUMMARY, summary),
    }
    return {
        "id": f"resp_{id}",
        "object": "response.compaction",
        "created_at": created_at,
        "output": [*output, sealed],
        "usage": usage(reply),
    }
