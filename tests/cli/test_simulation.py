"""What long conversations cost: a window with a summary beside a sliding one, and beside re-sending everything."""

from pathlib import Path

import pytest

from proxy.cli.simulation.account import Account, Prices, Row
from proxy.cli.simulation.replay import Terms, replay
from proxy.cli.simulation.transcript import Conversation, read
from proxy.context.contract import Recall, Window
from proxy.policy import Policies, Policy
from tests.cli.simulation.talk import MODEL, turns, write

SHIPPED = Path(__file__).parents[2] / "policies"


@pytest.fixture(scope="module")
def conversation(tmp_path_factory: pytest.TempPathFactory) -> Conversation:
    """300 equal turns of 100 + 400 tokens."""
    (found,) = read(write(tmp_path_factory.mktemp("talk") / "x.jsonl", turns(300)), MODEL)
    sizes = {(exchange.new[0].tokens, exchange.reply[0].tokens) for exchange in found.exchanges}
    assert (len(found.exchanges), sizes) == (300, {(100, 400)})
    return found


def cost(conversation: Conversation, window: Window | None, like: Policy | None = None) -> Row:
    account = Account("p")
    summary, recall = (like.summary, like.recall) if like else (None, None)
    policy = Policy(name="p", key="p", window=window, summary=summary, recall=recall)
    for _ in replay(conversation, policy, Terms(), account):
        pass
    return account.row(Prices(1.0, 0.1, 4.0))


def test_the_default_policy_costs_a_fraction_of_what_everybody_else_does(conversation: Conversation) -> None:
    default = Policies.load(str(SHIPPED)).default
    assert default.window is not None
    window = Window(max_tokens=16_000, trim_to=default.window.trim_to)
    sliding = cost(conversation, Window(max_tokens=16_000, trim_to=1.0)).prompt_cost
    everything = cost(conversation, None).prompt_cost
    # the size of the problem: about 14,700 and 8,000 units a turn
    assert 13_500 < sliding / 300 < 15_500
    assert 7_500 < everything / 300 < 8_500
    with_summary = cost(conversation, window, Policy(summary=default.summary))
    assert with_summary.prompt_cost <= 0.17 * sliding
    assert with_summary.prompt_cost <= 0.31 * everything
    assert with_summary.summarised == with_summary.dropped > 260
    with_recall = cost(conversation, window, default)
    assert default.recall is not None
    assert with_recall.prompt_cost <= 0.25 * sliding
    assert with_recall.prompt_cost <= 0.42 * everything


def test_gated_recall_costs_little_even_where_each_turn_takes_up_an_old_one(tmp_path: Path) -> None:
    """Every other user's message repeats half of what a user said 100 turns before."""
    said = turns(300)
    for at in range(200, 600, 4):
        old, new = (str(said[place]["content"]).split() for place in (at - 200, at))
        said[at] = {"role": "user", "content": " ".join([*old[:12], *new[12:]])}
    (talk,) = read(write(tmp_path / "x.jsonl", said), MODEL)
    window = Window(max_tokens=16_000)
    sliding = cost(talk, Window(max_tokens=16_000, trim_to=1.0)).prompt_cost
    default = Policies.load(str(SHIPPED)).default
    row = cost(talk, window, Policy(summary=default.summary, recall=Recall()))
    assert row.recalled > 50
    assert row.prompt_cost <= 0.25 * sliding
    assert row.prompt_cost <= 0.42 * cost(talk, None).prompt_cost
