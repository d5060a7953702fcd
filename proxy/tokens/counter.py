"""What a message weighs in tokens. Counted once, when a message is first seen, and stored with its entry.

Text is exact for the models that tiktoken knows (`vocabulary.known`). Around it stands OpenAI's published formula
(cookbook, "How to count tokens with tiktoken": 3 a message, its role, its content, 1 more with a name). What no
formula is published for is an estimate, and says so here.
"""

from collections import OrderedDict
from hashlib import blake2b
from threading import Lock

import msgspec

from proxy.conversation.message import Media, Message
from proxy.tokens import image_size, images, vocabulary
from proxy.tokens.pieces import PIECE_CHARS, pieces

MESSAGE_TOKENS = 3
ROLE_TOKENS = 1
"""Each of the five roles is one token in both vocabularies."""
NAME_TOKENS = 1
PRIMING_TOKENS = 3
"""Once a request: the start of the reply stands at the end of every prompt."""

CALL_TOKENS = 3
"""Around the name and the arguments of each tool call; measured by others on usage figures, not published."""

THREAD_CHARS = 65_536
"""From this much text on a count takes 5 ms or more, and should not run on the event loop (see `is_slow`)."""

AUDIO_TOKENS_PER_S = 10
"""Of a user's audio; OpenAI, "Managing costs" of the Realtime API: one token for 100 ms."""
_WAV_BYTES_PER_S = 48_000
_OTHER_BYTES_PER_S = 16_000
"""Where a file does not say: 24 kHz, 16 bit, one channel; and mp3 at 128 kbit/s."""

FILE_BYTES_PER_TOKEN = 25
"""An estimate: a PDF page has about 50 KB and costs 1,500 to 3,000 tokens (Anthropic, "PDF support")."""
FILE_TOKENS_MIN = 500
FILE_TOKENS_MAX = 50_000
UNKNOWN_MEDIA_TOKENS = 1_000
"""Of audio and files that are not in the request, but behind a URL or an id."""

_ID_CHARS = 256
"""Shorter data is no data but an id."""

RATIO_MIN, RATIO_MAX = 0.25, 4.0


def count(message: Message, model: str) -> int:
    """Tokens of one message of a prompt, its role and frame included, `PRIMING_TOKENS` not."""
    tokens = MESSAGE_TOKENS + ROLE_TOKENS + count_text(message.text, model)
    if message.calls:
        for call in message.calls:
            tokens += CALL_TOKENS + count_text(call.name, model) + count_text(call.arguments, model)
    elif b'"name"' in message.wire:
        name = _name(message.wire)
        if name:
            tokens += NAME_TOKENS + count_text(name, model)
    for media in message.media:
        tokens += _media(media, model)
    return tokens


def count_text(text: str, model: str) -> int:
    """Tokens of plain text; what looks like a special token is counted as the text that it is. Linear in the text's
    length whatever it holds; up to 4,096 characters the count is tiktoken's own, beyond that it is within a token for
    every 4,096 characters that hold no space, line or punctuation."""
    encode = vocabulary.encoding(model).encode_ordinary
    if len(text) <= PIECE_CHARS:
        return len(encode(text))
    return sum(len(encode(piece)) for piece in pieces(text))


def is_slow(message: Message) -> bool:
    """Counting this message takes 5 ms or more: do it in a thread (tiktoken releases the interpreter's lock)."""
    chars = len(message.text)
    for call in message.calls:
        chars += len(call.arguments)
    return chars >= THREAD_CHARS


def overhead(raw: bytes, model: str) -> int:
    """Tokens of what weighs beside the messages (tools, response formats), estimated by its JSON. Remembered for the
    last 256 different ones, since clients send the same tools each time."""
    return _overheads.count(raw, model) if raw else 0


def ratio(estimated: int, reported: int) -> float:
    """By what an estimate is to be multiplied to give what the upstream reported; between 0.25 and 4, and 1 where
    either figure is missing (not above 0)."""
    if estimated <= 0 or reported <= 0:
        return 1.0
    return min(RATIO_MAX, max(RATIO_MIN, reported / estimated))


class Overheads:
    """The latest `most` counts, by digest, so that the texts themselves are not kept."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._counts: OrderedDict[tuple[bytes, str], int] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._counts)

    def count(self, raw: bytes, model: str) -> int:
        key = blake2b(raw, digest_size=16).digest(), vocabulary.encoding_name(model)
        with self._lock:
            found = self._counts.get(key)
            if found is not None:
                self._counts.move_to_end(key)
                return found
        tokens = count_text(raw.decode(errors="replace"), model)
        with self._lock:
            self._counts[key] = tokens
            if len(self._counts) > self._most:
                self._counts.popitem(last=False)
        return tokens


_overheads = Overheads(256)


class _Named(msgspec.Struct):
    name: str | None = None


_named = msgspec.json.Decoder(_Named).decode


def _name(wire: bytes) -> str | None:
    try:
        return _named(wire).name
    except (msgspec.DecodeError, UnicodeDecodeError):  # no name that a provider would take
        return None


def _media(media: Media, model: str) -> int:
    match media.kind:
        case "image":
            low = media.detail == "low"
            return images.tokens(None if low else image_size.size(media.data), media.detail, model)
        case "audio":
            return _audio(media)
        case _:
            return _file(media)


def _audio(media: Media) -> int:
    read = image_size.reader(media.data)
    if read is None or len(media.data) < _ID_CHARS:
        return UNKNOWN_MEDIA_TOKENS
    head = read(0, 44)
    if head.startswith(b"RIFF") and head[8:12] == b"WAVE":
        rate = int.from_bytes(head[28:32], "little") or _WAV_BYTES_PER_S
    else:
        rate = _WAV_BYTES_PER_S if media.detail == "wav" else _OTHER_BYTES_PER_S
    return 1 + len(media.data) * 3 // 4 * AUDIO_TOKENS_PER_S // max(rate, 1_000)


def _file(media: Media) -> int:
    if image_size.reader(media.data) is None or len(media.data) < _ID_CHARS:
        return UNKNOWN_MEDIA_TOKENS
    size = len(media.data) * 3 // 4
    return min(FILE_TOKENS_MAX, max(FILE_TOKENS_MIN, size // FILE_BYTES_PER_TOKEN))
