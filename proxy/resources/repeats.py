"""A request for a new chain that is made again: it gets the entry of the first one, so that there is no second.

Requests that go on from something are recognised there, like all others (see exchange/retry.py). A new chain has no
place where to look, and a response that nobody waits for is none yet: an idempotency key says which entry it is; else,
for as long as this process lives, the body of a request whose reply was not delivered.
"""

import time
from hashlib import blake2b

from proxy.conversation.entry import new_id
from proxy.exchange.contract import Client, Request
from proxy.exchange.retry import Attempt, attempt
from proxy.stores.contract import Ref, Store, tag

KEPT = 1024
KEPT_S = 600.0


class Repeats:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._begun: dict[tuple[Ref, str], tuple[str, bytes, float]] = {}
        self._entries: dict[tuple[str, str], tuple[str, float]] = {}

    async def entry(self, request: Request) -> str:
        """The id of the entry that the request makes, or has made. Raises StoreUnavailable."""
        tried = attempt(request.headers, request.body)
        if tried is None:
            return new_id()
        tenant = request.tenant()
        if not tried.sticky:
            return self._remembered(tenant.name, tried.key, again=tried.again)
        entry = blake2b(tried.key.encode(), key=tenant.digest_key, digest_size=16).hexdigest()
        return await self._unless_old(Ref(tenant.name, "chain", entry), entry, tried)

    async def following(self, request: Request, ref: Ref) -> str:
        """As `entry`, for one on `ref` that is made in the background. Raises StoreUnavailable."""
        tried = attempt(request.headers, request.body)
        if tried is None or not tried.sticky:
            return new_id()
        said = f"{tried.key} {ref.kind} {ref.name}".encode()
        entry = blake2b(said, key=request.tenant().digest_key, digest_size=16).hexdigest()
        return await self._unless_old(ref, entry, tried)

    async def _unless_old(self, ref: Ref, entry: str, tried: Attempt) -> str:
        if await self._store.find(ref.tenant, tag(ref), entry) and not await self._store.find_replay(ref, tried.key):
            # the key was used so long ago that it means nothing any more
            return new_id()
        return entry

    def begin(self, ref: Ref, id: str, tried: Attempt) -> None:
        """A response is begun that nobody waits for; a repeat is told of this one."""
        self._begun.pop((ref, tried.key), None)
        if len(self._begun) >= KEPT:
            del self._begun[next(iter(self._begun))]
        self._begun[ref, tried.key] = id, tried.request, time.monotonic()

    def first(self, ref: Ref, tried: Attempt) -> tuple[str, bytes] | None:
        """(the response's id, the hash of the body that it was begun with)."""
        found = self._begun.get((ref, tried.key))
        return found[:2] if found is not None and time.monotonic() - found[2] < KEPT_S else None

    def told(self, ref: Ref, tried: Attempt) -> None:
        """Its client knows of it: the same body again is a new request, unless a key says that it is not."""
        if not tried.sticky:
            self._begun.pop((ref, tried.key), None)

    def failed(self, ref: Ref, tried: Attempt) -> None:
        """It was not begun after all."""
        self._begun.pop((ref, tried.key), None)

    def ended(self, request: Request, entry: str, client: Client) -> None:
        """The exchange is over; if the client has all of the reply, the same body again is a new request."""
        tried = attempt(request.headers, request.body)
        if tried is not None and not tried.sticky and not client.gone:
            key = request.tenant().name, tried.key
            if self._entries.get(key, ("", 0.0))[0] == entry:
                del self._entries[key]

    def _remembered(self, tenant: str, key: str, *, again: bool) -> str:
        now = time.monotonic()
        found = self._entries.pop((tenant, key), None)
        entry = found[0] if again and found is not None and now - found[1] < KEPT_S else new_id()
        if len(self._entries) >= KEPT:
            del self._entries[next(iter(self._entries))]
        self._entries[tenant, key] = entry, now
        return entry
