"""Which requests are asked of stored things, and which pass through."""

import pytest

from proxy.server.paths import Asked, response_path


@pytest.mark.parametrize(
    ("method", "path", "asked"),
    [
        ("POST", "/v1/responses", Asked("responses.create")),
        ("POST", "/openai/v1/responses/", Asked("responses.create")),
        ("POST", "/v1/responses/compact", Asked("responses.compact")),
        ("POST", "/v1/responses/input_tokens", Asked("responses.input_tokens")),
        ("GET", "/v1/responses/resp_1", Asked("responses.retrieve", "resp_1")),
        ("GET", "/v1/responses/a%2Fb", Asked("responses.retrieve", "a/b")),
        ("DELETE", "/v1/responses/resp_1", Asked("responses.delete", "resp_1")),
        ("POST", "/v1/responses/resp_1/cancel", Asked("responses.cancel", "resp_1")),
        ("GET", "/v1/responses/resp_1/input_items", Asked("responses.input_items", "resp_1")),
        ("POST", "/v1/conversations", Asked("conversations.create")),
        ("GET", "/v1/conversations/c", Asked("conversations.retrieve", "c")),
        ("POST", "/v1/conversations/c", Asked("conversations.update", "c")),
        ("DELETE", "/v1/conversations/c", Asked("conversations.delete", "c")),
        ("POST", "/v1/conversations/c/items", Asked("conversations.add_items", "c")),
        ("GET", "/v1/conversations/c/items", Asked("conversations.list_items", "c")),
        ("GET", "/v1/conversations/c/items/i", Asked("conversations.item", "c", "i")),
        ("DELETE", "/v1/conversations/c/items/i", Asked("conversations.delete_item", "c", "i")),
        ("GET", "/v1/responses", None),
        ("PATCH", "/v1/responses/resp_1", None),
        ("POST", "/v1/responses/resp_1", None),
        ("GET", "/v1/responses/resp_1/cancel", None),
        ("GET", "/v1/responses/resp_1/x", None),
        ("GET", "/v1/conversations", None),
        ("DELETE", "/v1/conversations/c/items", None),
        ("POST", "/v1/chat/completions", None),
        ("POST", "/v1/myresponses", None),
    ],
)
def test_paths(method: str, path: str, asked: Asked | None) -> None:
    assert response_path(method, path, upgrade=False) == asked


def test_a_websocket_is_told_apart() -> None:
    assert response_path("GET", "/v1/responses", upgrade=True) == Asked("responses.connect")
    assert response_path("GET", "/v1/models", upgrade=True) is None
