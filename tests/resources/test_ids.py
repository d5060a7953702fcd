"""Ids say what they name, and nothing else is taken for one."""

import pytest

from proxy.resources import ids
from proxy.stores.contract import Ref, tag

REF = Ref("t", "chain", "x")


def test_an_id_leads_back_to_what_it_names() -> None:
    id = ids.response_id("0" * 31 + "a", REF)
    assert ids.entry_of(id) == ("0" * 31 + "a", tag(REF))
    digits = id.removeprefix("resp_")
    for item in (f"msg_{digits}00", f"fc_{digits}1fi", f"rs_{digits}0abci"):
        assert ids.entry_of_item(item) == ("0" * 31 + "a", tag(REF))
    conversation = ids.new_conversation()
    assert ids.conversation_ref("t", conversation) == Ref("t", "conversation", conversation.removeprefix("conv_"))


@pytest.mark.parametrize(
    "id", ["", "resp_", "resp_" + "g" * 48, "resp_" + "0" * 47, "conv_" + "0" * 48, "msg_x", "../x"]
)
def test_what_is_no_id_names_nothing(id: str) -> None:
    assert ids.entry_of(id) is None
    assert ids.entry_of_item(id) is None
    assert ids.conversation_ref("t", id) is None
