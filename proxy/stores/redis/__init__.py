"""A store in Redis or Valkey (7 or newer), alone, with replicas, or as a cluster: fast, shared, with expiry.

What "durable" means here is the server's setting, not this program's:

- `appendonly yes`, `appendfsync always`: an append is on the server's disk when it is acknowledged; it survives a kill
  and a power cut of that machine.
- `appendonly yes`, `appendfsync everysec` (Redis' default once appendonly is on): it survives a kill of the server; a
  power cut loses at most about the last second.
- no append-only file: a restart goes back to the last snapshot, or to nothing.
- Replication is asynchronous: a failover may lose what the dead primary had acknowledged and not sent yet. An append
  that follows a lost one ends in a conflict, so nothing is ever recorded on top of what is gone. There is no WAIT here:
  `min-replicas-to-write` on the server narrows the gap (without enough replicas it refuses, and that is told).

What was erased or redacted is gone from memory at once, and from the disk with the next rewrite of the append-only file
or the next snapshot (`auto-aof-rewrite-percentage`, `save`).

In a cluster all of a ref lies in one slot and is changed by one script. The lists of sessions and of labels, of what is
due and of runs that go on lie elsewhere: a name is written there before its ref, and each that is read there is looked
up at its ref before it is told.

Run it with `maxmemory-policy noeviction`: every other policy may throw sessions away, or the list that names them.
"""

from proxy.stores.redis.store import RedisStore, from_url

__all__ = ["RedisStore", "from_url"]
