"""Recall in a replay: what was said is found by its words, on its own branch, and quoted."""

from proxy.cli.simulation.branch import Branches
from proxy.cli.simulation.memory import Memory
from proxy.cli.simulation.transcript import Exchange, Weighed
from proxy.context.contract import Recall, Recalled
from proxy.context.words import words
from proxy.conversation.entry import grow
from proxy.stores.picking import posting
from tests.cli.simulation.talk import CHAT, MODEL, Json, weight


def weighed(role: str, text: str) -> Weighed:
    message: Json = {"role": role, "content": text}
    return Weighed(CHAT.messages(CHAT.said(role, text))[0], weight(message))


class Talk:
    def __init__(self) -> None:
        self.branches = Branches()
        self.memory = Memory(self.branches)

    def say(self, id: str, parent: str, user: str, reply: str) -> Exchange:
        new, answer = (weighed("user", user),), (weighed("assistant", reply),)
        exchange = Exchange(id, parent, None, MODEL, CHAT, (), new, answer)
        chain = self.branches.load(parent, key="", reach=None, preamble=None)
        entry = grow(
            id=id,
            parent=chain.head if chain else None,
            key=b"k",
            messages=[each.message for each in (*new, *answer)],
            tokens=[each.tokens for each in (*new, *answer)],
            dialect="chat",
            model=MODEL,
            at_ms=1,
        )
        self.branches.add(entry)
        self.memory.add(entry, exchange)
        return exchange

    def ask(self, head: str, text: str, window_start: int, method: str = "keywords") -> Recalled | None:
        self.branches.load(head, key="", reach=None, preamble=None)
        settings = Recall(method="both", model="m") if method == "both" else Recall()
        exchange = Exchange("q", head, None, MODEL, CHAT, (), (weighed("user", text),), ())
        return self.memory.recall(exchange.new[0], settings, exchange, window_start, 1)


def talk() -> Talk:
    talk = Talk()
    talk.say("a", "", "My parrot is called Bellamy.", "A lovely name for a bird.")
    for number in range(20):
        parent = f"b{number - 1}" if number else "a"
        talk.say(f"b{number}", parent, f"Chapter {number} of the manual.", f"Noted, {number}.")
    talk.say("x0", "a", "The spaceship is called Wayfarer.", "Safe travels.")
    return talk


def test_what_was_said_is_found_again() -> None:
    for method in ("keywords", "both"):
        found = talk().ask("b19", "What was the parrot called?", 30, method)
        assert found is not None
        assert "Bellamy" in found.text
        assert found.excerpts[0].turn == 1


def test_other_branches_are_not_searched() -> None:
    said = talk()
    assert said.ask("b19", "What was the spaceship Wayfarer?", 42) is None
    found = said.ask("x0", "What was the spaceship Wayfarer?", 4)
    assert found is not None
    assert "Wayfarer" in found.text
    assert said.ask("b19", "What was the spaceship Wayfarer?", 42) is None
    assert "Bellamy" in (said.ask("b19", "What was the parrot called?", 30) or Recalled("", 0, ())).text


def test_what_the_window_holds_is_not_recalled() -> None:
    assert talk().ask("b19", "What was the parrot called?", 0) is None


def test_nothing_is_recalled_where_nothing_bears_on_it() -> None:
    assert talk().ask("b19", "Quantum chromodynamics lectures tomorrow?", 42) is None


def test_the_statistics_are_those_of_the_branch() -> None:
    said = talk()
    term = words("parrot").terms[0][0]
    for head in ("b19", "x0", "b19"):
        chain = said.branches.load(head, key="", reach=None, preamble=None)
        assert chain is not None
        texts = [message.text for entry in chain.entries for message in CHAT.messages(entry.wire)]
        found = said.memory._found([term, b"nowhere"], lambda _, counts: [True] * len(counts))
        assert (found.messages, found.length) == (len(texts), sum(words(text).length for text in texts))
        assert found.found == (posting(0, words(texts[0]).length, 1).to_bytes(8, "little"), b"")
