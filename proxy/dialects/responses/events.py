"""Chat events -> the events of a Responses stream.

One item comes after the other: a call that grows beside another one is held until that one is whole, and what is said
after calls have begun is held until they end. Reasoning that comes after text makes an item of its own. So the output
can be in another order than that of the reply in one piece: `settle` gives the Response object as it was streamed.
"""

import json
from collections.abc import Iterator, Sequence

import orjson

from proxy.conversation.reply import Calls, Pieces, fold, joined
from proxy.dialects.responses.logprobs import shaped
from proxy.dialects.responses.reply import (
    argument_text,
    blank,
    call_id,
    call_item,
    failed,
    item_id,
    message_item,
    output_text,
    reasoning_item,
    said,
)
from proxy.dialects.responses.request import Asked
from proxy.dialects.responses.sealed import OPAQUE, REASONING, seal
from proxy.dialects.responses.writer import Writer
from proxy.framing import sse

_LEGACY = "function_call"
_TEXT_ONLY = frozenset({"content", "role"})


class Transcoder:
    """Takes a chat stream in any pieces. Call `begin`, then `feed` any number of times, then `end` or `error`."""

    def __init__(self, asked: Asked, id: str, created_at: int) -> None:
        self._asked, self._id, self._created_at = asked, id, created_at
        self._out = Writer(obfuscates=asked.obfuscates)
        self._cutter = sse.Cutter()
        self._calls = Calls()
        self._call = 0
        """The number of the call that is open, or of the next one."""
        self._sent = 0
        """How many pieces of the open call are out."""
        self._tried = 0
        """How many pieces the open call had when it was last found to be unfinished."""
        self._opened = False
        """The call numbered `_call` is the open item."""
        self._late: list[tuple[str, str, list[dict[str, object]]]] = []
        """What was said after calls had begun."""
        self._opaque: dict[str, object] = {}
        """Reasoning in the upstream's own form, of which no item holds it yet."""
        self._torn = False
        """There are surrogate pairs that a server cut in two."""
        self._half = ""
        """The first half of one."""
        self._done = False

    def begin(self) -> bytes:
        """response.created, response.in_progress; of a background response, which is created as queued, response.queued
        between the two."""
        names = ("created", "queued", "in_progress") if self._asked.background else ("created", "in_progress")
        first = "queued" if self._asked.background else "in_progress"
        made: list[bytes] = []
        for name in names:
            status = "in_progress" if name == "in_progress" else first
            made.append(self._out.event(f"response.{name}", {"response": self._blank(status)}))
        return b"".join(made)

    def feed(self, data: bytes) -> bytes:
        """The events that chat events make; what is no chat event makes none. Only the first choice counts, and
        nothing after `[DONE]`."""
        whole = self._cutter.feed(data)
        if not whole or self._done:
            return b""
        made: list[bytes] = []
        for _, event in sse.events(whole):
            if event.startswith(b"[DONE]"):
                self._done = True
                break
            for delta, logprobs in self._deltas(event):
                self._add(delta, made, logprobs)
        return b"".join(made)

    def settle(self, data: bytes, response: dict[str, object]) -> tuple[bytes, dict[str, object]]:
        """See `proxy.dialects.contract.Transcoder`."""
        made = [self.feed(data)]
        if self._cutter.rest_bytes:
            made.append(self.feed(b"\n\n"))
        self._finish(made, str(response["status"]))
        self._seal(made)
        made += [self._out.whole(item) for item in self._missing(response)]
        return b"".join(made), self._settled(response)

    def end(self, response: dict[str, object]) -> bytes:
        """Closes the open items, then the last event with the response as it was streamed."""
        made, settled = self.settle(b"", response)
        return made + self._out.last(settled)

    def _settled(self, response: dict[str, object]) -> dict[str, object]:
        items = [*self._out.items]
        return {**response, "output": items, "output_text": output_text(items)}

    def error(self, code: str, message: str) -> bytes:
        """Closes the open items, then the flat `error` event and response.failed."""
        made: list[bytes] = []
        self._finish(made, "failed")
        made.append(self._out.event("error", {"code": code, "message": message, "param": None}))
        response = failed(self._settled(self._blank("failed")), code, message)
        made.append(self._out.event("response.failed", {"response": response}))
        return b"".join(made)

    def _blank(self, status: str) -> dict[str, object]:
        return blank(self._asked, self._id, self._created_at, status)

    def _deltas(self, event: bytes) -> list[tuple[dict[str, object], list[dict[str, object]]]]:
        """Each with its text's logprobs, if they are asked for."""
        try:
            value = orjson.loads(event)
        except orjson.JSONDecodeError:
            try:
                # there are servers that cut a surrogate pair in two
                value = json.loads(event.decode())
            except (ValueError, RecursionError):
                return []
            self._torn = True
        choices = value.get("choices") if isinstance(value, dict) else None
        if not isinstance(choices, list):
            return []
        first = [each for each in choices if isinstance(each, dict) and each.get("index") in (0, None)]
        found: list[tuple[dict[str, object], list[dict[str, object]]]] = []
        for each in first:
            delta = held if (held := each.get("delta")) is not None else each.get("message")
            if isinstance(delta, dict):
                found.append((delta, self._logprobs(each.get("logprobs"))))
        return found

    def _logprobs(self, held: object) -> list[dict[str, object]]:
        listed = held.get("content") if self._asked.logprobs and isinstance(held, dict) else None
        return shaped(listed) if isinstance(listed, list) else []

    def _add(self, delta: dict[str, object], made: list[bytes], logprobs: list[dict[str, object]]) -> None:
        if delta.keys() <= _TEXT_ONLY and isinstance(content := delta.get("content"), str):
            # what nearly every delta is
            if content or logprobs:
                self._say("output_text", content, made, logprobs)
            return
        if self._asked.seals:
            for member in OPAQUE:
                if isinstance(details := delta.get(member), list):
                    self._opaque[member] = fold(self._opaque.get(member, []), details)
        words = said(delta)
        if words.reasoning:
            self._say("reasoning_text", words.reasoning, made)
        if words.text or logprobs:
            self._say("output_text", words.text, made, logprobs)
        if words.refusal:
            self._say("refusal", words.refusal, made)
        listed = delta.get("tool_calls")
        for call in listed if isinstance(listed, list) else ():
            if isinstance(call, dict):
                self._calls.add(call)
        legacy = delta.get(_LEGACY)
        if isinstance(legacy, dict):
            name = legacy.get("name")
            id = {"id": f"function:{name}"} if isinstance(name, str) and name else {}
            self._calls.add({"index": -1, **id, "type": "function", "function": legacy})
        if listed or legacy:
            self._grow(made, last=False)

    def _say(self, kind: str, piece: str, made: list[bytes], logprobs: Sequence[dict[str, object]] = ()) -> None:
        out = self._out
        if self._opened or self._call:
            # calls stand last, and one may still grow
            self._late.append((kind, piece, [*logprobs]))
            return
        if not piece and out.part != kind:
            # logprobs of tokens that say nothing yet
            out.logprobs += logprobs
            return
        wanted = "reasoning" if kind == "reasoning_text" else "message"
        if out.kind != wanted:
            self._close("completed", made)
            if wanted == "message":
                self._seal(made)
            make = reasoning_item if wanted == "reasoning" else _message
            made.append(out.open(make(self._id, out.index)))
        if out.part != kind:
            self._mend(made)
            made += (out.close_part(), out.open_part(kind))
        out.logprobs += logprobs
        self._put(piece, made)

    def _grow(self, made: list[bytes], *, last: bool) -> None:
        """Gives out what has come of the calls, as far as their order lets it; `last`: nothing more comes."""
        calls, out = self._calls.whole(), self._out
        while self._call < len(calls):
            call = calls[self._call]
            custom = "custom" in call
            body = call.get("custom" if custom else "function")
            held = body.get("input" if custom else "arguments") if isinstance(body, dict) else None
            pieces = held if isinstance(held, Pieces) else Pieces()
            followed = self._call + 1 < len(calls)
            if not self._opened:
                named = call.get("id") and isinstance(body, dict) and body.get("name")
                if not last and not (named and (any(pieces) or followed)):
                    return
                self._close("completed", made)
                self._seal(made)
                made.append(
                    out.open(
                        call_item(self._id, out.index, {**call, "id": call_id(self._id, self._call, call)}, "completed")
                    )
                )
                self._opened = True
            if piece := "".join(pieces[self._sent :]):
                self._put(piece, made)
            self._sent = len(pieces)
            if last and held is not None and held is not pieces:
                self._put(argument_text(joined(held)), made)
            whole = (last or custom or self._is_whole(pieces)) and followed
            if not whole:
                return
            self._close("completed", made)
            self._call += 1
            self._sent = self._tried = 0
            self._opened = False

    def _is_whole(self, pieces: Pieces) -> bool:
        """Nothing more is expected of a function call after which another one has begun."""
        if len(pieces) == self._tried or not (pieces and pieces[-1].rstrip().endswith("}")):
            return False
        self._tried = len(pieces)
        try:
            orjson.loads("".join(pieces))
        except (orjson.JSONDecodeError, UnicodeEncodeError):
            return False
        return True

    def _finish(self, made: list[bytes], status: str) -> None:
        """Gives out all that is held, and closes the open item."""
        cut = "completed" if status == "completed" else "incomplete"
        self._grow(made, last=True)
        self._close("completed" if self._late else cut, made)
        self._opened, self._call = False, 0
        self._calls = Calls()
        late, self._late = self._late, []
        for kind, piece, logprobs in late:
            self._say(kind, piece, made, logprobs)
        self._close(cut, made)

    def _missing(self, response: dict[str, object]) -> Iterator[dict[str, object]]:
        """Items of the response of whose kind nothing was streamed, at the places that they get."""
        streamed = {item["type"] for item in self._out.items}
        listed = response["output"]
        for item in listed if isinstance(listed, list) else ():
            if item["type"] not in streamed:
                prefix = str(item["id"]).partition("_")[0]
                yield {**item, "id": item_id(prefix, self._id, self._out.index)}

    def _close(self, status: str, made: list[bytes]) -> None:
        self._mend(made)
        if self._opaque and self._out.kind == "reasoning":
            self._out.seal(seal(REASONING, joined(self._opaque)))
            self._opaque = {}
        made.append(self._out.close(status))

    def _seal(self, made: list[bytes]) -> None:
        """Reasoning without a text, or that came too late for the item of its text, makes an item of its own."""
        if self._opaque:
            sealed, self._opaque = seal(REASONING, joined(self._opaque)), {}
            made.append(self._out.whole(reasoning_item(self._id, self._out.index, "", sealed)))

    def _put(self, piece: str, made: list[bytes]) -> None:
        if self._torn:
            piece, self._half = self._half + piece, ""
            if "\ud800" <= piece[-1:] <= "\udbff":
                piece, self._half = piece[:-1], piece[-1]
            piece = piece.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        if piece:
            made.append(self._out.delta(piece))

    def _mend(self, made: list[bytes]) -> None:
        """A half that stays alone is replaced: no JSON parser would take it."""
        if self._half:
            self._half = ""
            made.append(self._out.delta("\ufffd"))


def whole(response: dict[str, object]) -> bytes:
    """Every event of a finished response."""
    out = Writer()
    started = {
        **response,
        "status": "in_progress",
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "output": [],
        "output_text": "",
        "usage": None,
    }
    made = [out.event(f"response.{name}", {"response": started}) for name in ("created", "in_progress")]
    items = response["output"]
    made += [out.whole(item) for item in (items if isinstance(items, list) else ())]
    made.append(out.last(response))
    return b"".join(made)


def _message(id: str, at: int) -> dict[str, object]:
    return message_item(id, at, [], "completed")
