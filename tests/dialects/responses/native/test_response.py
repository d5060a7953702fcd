"""The response is the upstream's own, under its own id, and true in what only the proxy knows."""

import json
from typing import Any

import pytest

from proxy.conversation.reply import Reply
from proxy.dialects.responses.native.translation import NATIVE_RESPONSES as API
from tests.dialects.responses import grammar
from tests.dialects.responses.native.samples import message, read
from tests.support.stateless import response

ID = "ab" * 24


def asked(**members: object) -> Any:
    return API.read(json.dumps({"model": "m", "input": "?", **members}).encode(), ID, {})


def answered(upstream: dict[str, Any], **members: object) -> dict[str, Any]:
    return API.answer(asked(**members), ID, 5, read(json.dumps(upstream).encode(), stream=False))


def test_it_is_the_upstreams_with_what_it_cannot_know() -> None:
    made = answered(response({}, [message("hi")], x=1), previous_response_id="resp_0", metadata={"a": "b"})
    assert grammar.check_response({name: each for name, each in made.items() if name != "x"})
    assert (made["x"], made["id"], made["store"], made["previous_response_id"]) == (1, f"resp_{ID}", True, "resp_0")
    assert (made["metadata"], made["output_text"], made["created_at"]) == ({"a": "b"}, "hi", 1_700_000_000)
    assert made["output"][0]["id"] == f"msg_{ID}00"
    # a background one was announced before the upstream was asked
    assert answered(response({}, [message("hi")]), background=True)["created_at"] == 5


@pytest.mark.parametrize("status", ["completed", "incomplete", "failed"])
def test_what_the_upstream_leaves_out_is_filled_in(status: str) -> None:
    made = answered({"object": "response", "status": status, "output": [message("hi")], "tools": None}, tools=[])
    assert grammar.check_response(made)["status"] == status
    assert (made["completed_at"] is not None) == (status == "completed")
    assert (made["error"] is not None) == (status == "failed")
    assert (made["incomplete_details"] is not None) == (status == "incomplete")


def test_a_reply_of_which_nothing_came_failed() -> None:
    made = API.answer(asked(), ID, 5, Reply(None, whole=False))
    assert grammar.check_response(made)["status"] == "failed"
    assert grammar.check_response(API.unfinished(asked(background=True), ID, 5, "queued"))["status"] == "queued"
    assert grammar.check_response(API.unfinished(asked(), ID, 5, "failed"))["error"]


def test_cancelled_and_failed_can_be_said_of_any() -> None:
    reply = read(json.dumps(response({}, [message("hi")])).encode(), stream=False)
    made = API.answer(asked(), ID, 5, reply, status="cancelled")
    assert (made["status"], made["error"], made["output_text"]) == ("cancelled", None, "hi")
    failed = API.failed(made, "server_error", "Broken.")
    assert (failed["status"], failed["error"]) == ("failed", {"code": "server_error", "message": "Broken."})
