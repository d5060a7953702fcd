"""An upstream's reply that came compressed although plain bytes were asked for: decoded while it is read."""

from multidict import CIMultiDict, CIMultiDictProxy

from proxy.errors import UpstreamBroken, UpstreamReplyTooLarge
from proxy.framing.inflate import ENCODINGS, Inflate, TooMuch
from proxy.upstream.contract import UpstreamReply

REPLY_AT_MOST = 64 * 1024 * 1024


def decoded(reply: UpstreamReply) -> UpstreamReply:
    """The reply itself, or one whose bytes are plain and whose headers no longer say otherwise.

    Raises UpstreamBroken for an encoding that cannot be decoded here.
    """
    encoding = reply.headers.get("Content-Encoding", "").strip().lower()
    if encoding in ("", "identity"):
        return reply
    if encoding not in ENCODINGS:
        reply.close()
        error = UpstreamBroken(
            "The upstream compressed its reply in a way that was not asked for; switch its compression off.",
        )
        error.retry = False
        raise error
    return _Decoded(reply, encoding)


class _Decoded:
    def __init__(self, reply: UpstreamReply, encoding: str) -> None:
        self._reply = reply
        self._inflate = Inflate(encoding, REPLY_AT_MOST)
        self.status, self.reason = reply.status, reply.reason
        headers = CIMultiDict(reply.headers)
        headers.popall("Content-Encoding", None)
        headers.popall("Content-Length", None)
        self.headers = CIMultiDictProxy(headers)

    async def read(self) -> bytes:
        try:
            while chunk := await self._reply.read():
                # an empty result is not the end: the bytes so far may be a header only
                if plain := self._inflate.feed(chunk):
                    return plain
            self._inflate.end()
        except TooMuch:
            raise UpstreamReplyTooLarge("The upstream's reply is larger than 64 MiB once decoded.") from None
        except ValueError as error:
            raise UpstreamBroken(f"The upstream's compressed reply cannot be decoded: {error}.") from None
        return b""

    def close(self) -> None:
        self._reply.close()
