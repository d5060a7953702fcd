"""What a policy sends and costs: by hand for small conversations, and as the proxy itself would for random ones."""

import json
from pathlib import Path

import pytest

from proxy.cli.simulation.account import Account, Prices, Row
from proxy.cli.simulation.prefix import Caching
from proxy.cli.simulation.replay import Terms, replay
from proxy.cli.simulation.transcript import read
from proxy.context import summary as rolling
from proxy.context.contract import Recall, Summarise, Window
from proxy.policy import Policy
from proxy.tokens import counter
from tests.cli.simulation.talk import MODEL, Json, turns, weight, write

EXACT = Terms(Caching(minimum=0, step=1))
PRICES = Prices()
PRIMING = counter.PRIMING_TOKENS


def figures(path: Path, messages: list[Json], policy: Policy, terms: Terms = EXACT) -> tuple[Row, list[float]]:
    account = Account(policy.name)
    for conversation in read(write(path / "x.jsonl", messages), MODEL):
        assert len(list(replay(conversation, policy, terms, account))) == len(conversation.exchanges)
    return account.row(PRICES), account.per_turn


def window(tokens: int, trim_to: float = 0.5) -> Policy:
    return Policy(name="p", key="p", window=Window(max_tokens=tokens, trim_to=trim_to))


def test_everything_grows_and_is_read_from_the_cache(tmp_path: Path) -> None:
    row, per_turn = figures(tmp_path, turns(3), Policy(name="p", key="p"))
    assert per_turn == [PRIMING + 100, PRIMING + 600, PRIMING + 1100]
    assert (row.requests, row.input_tokens, row.cached_tokens) == (3, 3 * PRIMING + 1800, 700)
    assert row.output_tokens == 1200
    assert row.prompt_cost == pytest.approx(3 * PRIMING + 1800 - 700 + 70)
    assert row.cost == pytest.approx(row.prompt_cost + 4800)
    assert (row.largest, row.dropped, row.summarised, row.recalled) == (PRIMING + 1100, 0, 0, 0)


def test_a_short_prefix_is_not_cached_and_a_long_one_in_steps(tmp_path: Path) -> None:
    row, _ = figures(tmp_path, turns(4), Policy(name="p", key="p"), Terms())
    assert row.cached_tokens == 1024  # of 0, 100, 600 and 1100


def test_a_prefix_is_forgotten_after_its_time(tmp_path: Path) -> None:
    row, _ = figures(tmp_path, turns(3), Policy(name="p", key="p"), Terms(Caching(0, 1, 60.0), pace_s=61.0))
    assert row.cached_tokens == 0


def test_a_sliding_window_drops_the_oldest_turn_each_turn(tmp_path: Path) -> None:
    row, per_turn = figures(tmp_path, turns(8), window(1500, 1.0))
    assert per_turn == [PRIMING + 100 + 500 * min(3, turn) for turn in range(8)]
    assert (row.dropped, row.largest) == (4, PRIMING + 1600)
    # once it slides, nothing is at the place where it was
    assert row.cached_tokens == 100 + 600 + 1100


def test_a_stepped_window_keeps_its_prefix_between_two_cuts(tmp_path: Path) -> None:
    row, per_turn = figures(tmp_path, turns(8), window(1500, 0.4))
    assert [(tokens - PRIMING - 100) / 500 for tokens in per_turn] == [0, 1, 2, 3, 1, 2, 3, 1]
    assert row.cached_tokens == (100 + 600 + 1100) + (100 * 0) + (600 + 1100) + 0
    assert row.dropped == 6


def test_the_preamble_is_sent_first_each_time(tmp_path: Path) -> None:
    system: Json = {"role": "system", "content": "Be kind to everybody."}
    row, per_turn = figures(tmp_path, [system, *turns(6)], window(500, 1.0))
    assert per_turn == [PRIMING + weight(system) + 100 + 500 * min(1, turn) for turn in range(6)]
    assert row.cached_tokens == (weight(system) + 100) + 4 * weight(system)


@pytest.mark.parametrize(("role", "system"), [("system", False), ("system", True), ("user", True)])
def test_a_summary_is_written_behind_the_cached_prefix_and_stands_for_what_it_covers(
    tmp_path: Path, role: str, system: bool
) -> None:
    said: Json = {"role": "system", "content": "Be kind to everybody."}
    lead = weight(said) if system else 0
    asked = Summarise(max_tokens=200, prompt="Sum it up.", role="user" if role == "user" else "system")
    policy = Policy(name="p", key="p", window=Window(max_tokens=2000, trim_to=0.5), summary=asked)
    said_last = turns(6)[:-1]
    row, per_turn = figures(tmp_path, [said, *said_last] if system else said_last, policy)
    shown = 200 + counter.count_text(rolling.HEADING, MODEL) + (4 if role == "user" or not system else 0)
    question = 4 + counter.count_text("Sum it up.", MODEL)
    # behind four turns of 500 a fifth would not fit: half of the window goes
    kept = [0, 1, 2, 3, 2, 3]
    seen = [0, 0, 0, 0, shown, shown]
    assert per_turn == [PRIMING + lead + more + 500 * turns + 100 for more, turns in zip(seen, kept, strict=True)]
    assert (row.dropped, row.summarised, row.summary_calls) == (2, 2, 1)
    assert row.summary_input_tokens == PRIMING + lead + 2 * 500 + question
    assert row.summary_output_tokens == 200
    assert row.input_tokens == sum(per_turn) + row.summary_input_tokens
    # all that the summary is made from was sent just before
    hits = [0, lead + 100, lead + 600, lead + 1100, lead, lead + shown + 2 * 500 + 100]
    assert row.cached_tokens == sum(hits) + lead + 2 * 500
    expected = row.input_tokens - row.cached_tokens + 0.1 * row.cached_tokens + 4 * 200
    assert row.prompt_cost == pytest.approx(expected)
    assert row.cost == pytest.approx(expected + 4 * 400 * 5)


def test_a_summary_by_another_model_reads_nothing_from_the_cache(tmp_path: Path) -> None:
    def cached(model: str) -> int:
        asked = Summarise(max_tokens=200, model=model)
        policy = Policy(name="p", key="p", window=Window(max_tokens=2000), summary=asked)
        return figures(tmp_path, turns(6)[:-1], policy)[0].cached_tokens

    assert cached("") == cached(MODEL) == cached("gpt-4o-mini") + 1000


def test_recall_brings_back_what_bears_on_the_new_message_and_costs_it_in_full(tmp_path: Path) -> None:
    def asking(text: str) -> list[Json]:
        parrot: Json = {"role": "user", "content": "My parrot is called Bellamy and eats mangoes."}
        return [parrot, {"role": "assistant", "content": "Noted."}, *turns(10), {"role": "user", "content": text}]

    plain = window(1500)
    with_recall = Policy(name="p", key="p", window=plain.window, recall=Recall(max_tokens=300))
    question = "What does Bellamy the parrot eat?"
    row, per_turn = figures(tmp_path, asking(question), with_recall)
    without, bare = figures(tmp_path, asking(question), plain)
    # its turn, and perhaps what stands beside it
    assert (row.recalled in {1, 2}, without.recalled) == (True, 0)
    assert per_turn[:-1] == bare[:-1]
    assert 20 < per_turn[-1] - bare[-1] <= 300
    assert row.cached_tokens == without.cached_tokens
    small_talk, _ = figures(tmp_path, asking("Thanks, and how are you?"), with_recall)
    assert small_talk.recalled == 0


def test_all_steps_of_a_turn_show_the_same_excerpts(tmp_path: Path) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    step: list[Json] = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "done"},
        {"role": "assistant", "content": "It eats mangoes."},
    ]
    parrot: list[Json] = [
        {"role": "user", "content": "My parrot is called Bellamy and eats mangoes."},
        {"role": "assistant", "content": "Noted."},
    ]
    asked: Json = {"role": "user", "content": "What does Bellamy the parrot eat?"}
    policy = Policy(name="p", key="p", window=Window(max_tokens=1500), recall=Recall(max_tokens=300))
    row, per_turn = figures(tmp_path, [*parrot, *turns(10), asked, *step, *turns(1, seed=2)], policy)
    assert row.recalled in {1, 2}
    assert per_turn[-2] == per_turn[-3] + weight(step[0]) + weight(step[1])
    # the turn is over: its message stands as the user wrote it
    assert per_turn[-1] < per_turn[-2] + weight(step[2]) + 100
    # the step's request goes on from the one before
    account = Account("p")
    (conversation,) = read(write(tmp_path / "y", [*parrot, *turns(10), asked, *step]), MODEL)
    before = 0
    for number, _ in enumerate(replay(conversation, policy, EXACT, account)):
        if number == len(conversation.exchanges) - 2:
            before = account.row(PRICES).cached_tokens
    assert account.row(PRICES).cached_tokens - before == per_turn[-3] - PRIMING


def exported(path: Path, said: list[tuple[str, str, str]], model: str = MODEL) -> Path:
    """Exchanges (id, parent, text) as an export, one second apart."""
    lines: list[Json] = []
    for number, (id, parent, text) in enumerate(said):
        at = f"2025-01-01T00:00:{number:02d}.000Z"
        common: Json = {"session": "s", "tenant": "t", "turn": 1, "at": at, "model": model, "dialect": "chat"}
        lines += [
            {**common, "entry": id, "parent": parent, "message": {"role": role, "content": text}}
            for role in ("user", "assistant")
        ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_branch_goes_on_from_its_parent_and_shares_its_prefix(tmp_path: Path) -> None:
    path = exported(tmp_path / "e", [("1", "", "one"), ("2", "1", "two"), ("3", "1", "three"), ("4", "2", "four")])
    account = Account("p")
    (conversation,) = read(path, "")
    for _ in replay(conversation, Policy(name="p", key="p"), EXACT, account):
        pass
    one = weight({"role": "user", "content": "one"})
    assert account.per_turn == [PRIMING + one * count for count in (1, 3, 3, 5)]
    assert account.row(PRICES).cached_tokens == one * (0 + 1 + 2 + 3)


def test_fit_is_what_the_model_holds(tmp_path: Path) -> None:
    policy = Policy(name="p", key="p", window=Window(max_tokens="fit"))
    exchanges = [(str(number), str(number - 1) if number > 1 else "", "word " * 400) for number in range(1, 20)]
    largest = {}
    for model in ("gpt-4", "gpt-4o", "never-heard-of"):
        account = Account("p")
        (conversation,) = read(exported(tmp_path / "e", exchanges, model), "")
        for _ in replay(conversation, policy, EXACT, account):
            pass
        largest[model] = account.row(PRICES).largest
    assert 3000 < largest["gpt-4"] <= 8192 - 2048
    assert largest["gpt-4o"] == largest["never-heard-of"] > 14_000


def test_a_clock_that_was_set_back_makes_nothing_old(tmp_path: Path) -> None:
    path = exported(tmp_path / "e", [("1", "", "one"), ("2", "1", "two"), ("3", "2", "three")])
    text = path.read_text().replace("00:00:00.000Z", "00:00:59.000Z").replace("00:00:02.000Z", "00:00:40.000Z")
    path.write_text(text)
    (conversation,) = read(path, "")
    assert [exchange.at_s for exchange in conversation.exchanges] == [1735689600 + s for s in (59, 1, 40)]
    account = Account("p")
    for _ in replay(conversation, Policy(name="p", key="p"), Terms(Caching(0, 1, 30.0)), account):
        pass
    one = weight({"role": "user", "content": "one"})
    assert account.row(PRICES).cached_tokens == one * (1 + 3)
