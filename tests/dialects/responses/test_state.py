"""What ties a request to stored things: one line to go on from, and kept or not."""

from collections.abc import Mapping

import pytest

from proxy.dialects.responses.state import MEMBERS, State, echo_of, read_state
from proxy.errors import InvalidBody, MutuallyExclusive


def test_a_request_that_says_nothing_is_kept_and_begins() -> None:
    assert read_state({}) == State(True, False, "", "", None)
    assert echo_of(read_state({})) == {
        "store": True, "background": False, "previous_response_id": None, "truncation": "disabled",
    }  # fmt: skip


def test_each_member_is_read() -> None:
    state = read_state({"store": True, "background": True, "conversation": {"id": "c"}, "truncation": "auto"})
    assert state == State(True, True, "", "c", True)
    assert echo_of(state) == {
        "store": True, "background": True, "previous_response_id": None, "truncation": "auto",
        "conversation": {"id": "c"}, "conversation_id": "c",
    }  # fmt: skip
    assert read_state({"previous_response_id": "r", "store": False, "truncation": "disabled"}) == State(
        False, False, "r", "", False
    )


def test_a_background_response_is_stored() -> None:
    with pytest.raises(InvalidBody) as told:
        read_state({"background": True, "store": False})
    assert (told.value.message, told.value.param) == ("background can only be used when `store` is true", "background")
    assert read_state({"background": False, "store": False}).store is False


@pytest.mark.parametrize("named", [{"conversation": "c"}, {"conversation": {"id": "c"}}, {"conversation_id": "c"}])
def test_one_line_to_go_on_from(named: Mapping[str, object]) -> None:
    assert read_state(named).conversation == "c"
    with pytest.raises(MutuallyExclusive) as told:
        read_state({**named, "previous_response_id": "r"})
    assert told.value.message == (
        "Mutually exclusive parameters: 'previous_response_id' and 'conversation'. Ensure you are only providing one "
        "of: 'previous_response_id' or 'conversation'."
    )
    assert (told.value.status, told.value.code, told.value.param) == (400, "mutually_exclusive_parameters", None)


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ({"conversation": "c", "conversation_id": "d"}, "conversation_id"),
        ({"conversation": ""}, "conversation"),
        ({"conversation": {}}, "conversation.id"),
        ({"conversation": {"id": ""}}, "conversation.id"),
        ({"conversation": {"id": "c", "metadata": {}}}, "conversation.metadata"),
        ({"conversation": ["c"]}, "conversation"),
        ({"conversation_id": {"id": "c"}}, "conversation_id"),
        ({"previous_response_id": ""}, "previous_response_id"),
        ({"context_management": [{"type": "compaction"}]}, "context_management"),
        ({"truncation": "some"}, "truncation"),
        *[({name: 7}, name) for name in sorted(MEMBERS)],
    ],
)
def test_refusals_name_the_member(said: Mapping[str, object], param: str) -> None:
    with pytest.raises(InvalidBody) as told:
        read_state(said)
    assert told.value.param == param


def test_compaction_is_a_matter_of_the_policy() -> None:
    assert read_state({"context_management": []}) == read_state({})
    with pytest.raises(InvalidBody, match=r"`\[summary\]` of the policy file"):
        read_state({"context_management": [{"type": "compaction", "compact_threshold": 1000}]})
