"""A Lua script and the digest by which a server that has seen it knows it; and what several scripts share.

All scripts work on the keys of one ref, which lie in one slot. KEYS: the ref's hash, and, on a server that is no
cluster, the list of all refs, the set of what is due, and for runs the set of those that go on. Its other keys, of the
index and of runs, are made of the first: named beside it, those that do not exist would make a cluster refuse appends
and loads while the slot moves (TRYAGAIN).
ARGV[1] is the time in milliseconds.

Fields of the ref's hash (an address is `BRANCH.INDEX`; a branch is a run of entries, each the child of the one before;
failed exchanges have addresses of their own, `-N`):

    G  generation: told apart from a ref of this name before it       R  its member in the list of refs
    I  kind and name
    E  when it expires      B  when the server removes its keys by itself       q  when the sweep is to look at it
    H  the head's address   h  the head's id    D  the head's facts    W  1: a client once sent its whole history
    C  created   T  updated   N  entries ever appended   Q  branches ever made   U  summaries   M  models with vectors
    L  key of the head's own replay, l  the replay      y, Y  first sticky replay that is kept, and the one to come
    i:ID address   e:ADDRESS entry   m:ADDRESS facts   a:ADDRESS plan   s:N address   d:DIGEST id   n:BRANCH length
    b:BRANCH parent's address and the position at which the branch leaves   p:ID preamble
    k:KEY sticky replay   y:N its key   u:N summary   o:N its `upto`   U:ID its N   z:ADDRESS note
    V  revision   A  label   J  the list of labels that it stands in, j  its member there

Facts: upto, turn, resume (0xFFFFFFFF: no anchor) in 4 bytes each, tokens_upto as a double, all big-endian; then the
preamble's id, the anchor's key and the id of the anchor's summary, with their lengths in front.
"""

from hashlib import sha1

SLACK_MS = 12 * 60 * 60 * 1000
"""The server removes an expired ref's keys by itself at least so long after its time, at most three times that: should
the sweep never come. So the keys are told their time anew once in a while, not each turn."""


class Script:
    def __init__(self, body: str, *parts: str) -> None:
        self.text = "\n".join((BASE, *parts, body)).encode()
        self.sha = sha1(self.text, usedforsecurity=False).hexdigest().encode()


BASE = """
local call, r, now = redis.call, KEYS[1], tonumber(ARGV[1])
local function over(expires) return expires and tonumber(expires) <= now end
local function split(address)
  local b, i = string.match(address or '', '^(%d+)%.(%d+)$')
  return tonumber(b), tonumber(i)
end
"""

ENTRY = """
local function alive()
  local f = call('HMGET', r, 'G', 'E')
  return f[1] and not over(f[2])
end
local function place(id) return split(call('HGET', r, 'i:' .. id)) end
"""
"""`place`: the branch and index of an entry that is on a branch; nothing for every other."""

CHAIN = """
local UPTO, TURN, TOKENS = 1, 2, 4
local function fact(b, i, what)
  return (select(what, struct.unpack('>I4I4I4d', call('HGET', r, 'm:' .. b .. '.' .. i))))
end
local function parent(b)
  local x, y, z = string.match(call('HGET', r, 'b:' .. b) or '', '^(%d+)%.(%d+)%.(%d+)$')
  return tonumber(x), tonumber(y), tonumber(z) or 0
end
local function above(b, i, what, x)
  if fact(b, i, what) <= x then return i + 1 end
  local step, hi, lo = 1, i, i - 1
  while lo >= 0 and fact(b, lo, what) > x do
    hi, step = lo, step * 2
    lo = lo - step
  end
  if lo < -1 then lo = -1 end
  while hi - lo > 1 do
    local mid = math.floor((hi + lo) / 2)
    if fact(b, mid, what) > x then hi = mid else lo = mid end
  end
  return hi
end
local function gather(hash, names)
  local all = {}
  for at = 1, #names, 1000 do
    local got = call('HMGET', hash, unpack(names, at, math.min(at + 999, #names)))
    for k = 1, #got do all[#all + 1] = got[k] end
  end
  return all
end
local function rows(parts, field)
  local names = {}
  for p = #parts, 1, -1 do
    local b = (field or 'e:') .. parts[p][1] .. '.'
    for k = parts[p][2], parts[p][3] do names[#names + 1] = b .. k end
  end
  return gather(r, names)
end
"""
"""`parent`: where a branch leaves another, and at which position. `above`: the first index on branch b, of those up to
i, at which the fact is greater than x; i + 1 if none is. It costs little if that is near i. `rows`: the blobs of the
entries that the parts (branch, from, to; newest first) hold, oldest first; not joined: Lua is slow at it."""

ERASE = """
local function keys()
  local all = {r, r .. ':x', r .. ':r', r .. ':u'}
  for model in string.gmatch(call('HGET', r, 'M') or '', '%x+') do
    all[#all + 1] = r .. ':n:' .. model
    all[#all + 1] = r .. ':v:' .. model
  end
  return all
end
local function erase(due)
  if KEYS[2] then
    local f = call('HMGET', r, 'G', 'R', 'J', 'j')
    if f[1] then call('ZREM', KEYS[3], due .. f[1]) end
    if f[2] and f[2] ~= '' then call('ZREM', KEYS[2], f[2]) end
    if f[3] then call('ZREM', f[3], f[4]) end
  end
  call('UNLINK', unpack(keys()))
end
"""

BACKSTOP = f"""
local SLACK = {SLACK_MS}
local function tell(command, ...)
  local done = true
  for _, key in ipairs(keys()) do
    -- while the slot moves, keys of the index may be out of reach: the next append tries again
    local answer = redis.pcall(command, key, ...)
    done = done and type(answer) == 'number'
  end
  return done
end
local function backstop(expires, had)
  if not expires then
    if had and tell('PERSIST') then call('HDEL', r, 'B') end
  elseif not had or had < expires + SLACK or had > expires + 3 * SLACK then
    if tell('PEXPIREAT', expires + 2 * SLACK) then call('HSET', r, 'B', expires + 2 * SLACK) end
  end
end
"""

RUN = """
local log, ends = r .. ':r', r .. ':u'
-- the server's, for several machines compare what it says; a test brings its own
local clock = tonumber(ARGV[2])
if not clock then
  local time = call('TIME')
  clock = time[1] * 1000 + math.floor(time[2] / 1000)
end
local function run(id)
  local f = call('HMGET', log, 'o:' .. id, 's:' .. id, 'e:' .. id, 'c:' .. id, 't:' .. id, 'n:' .. id, 'i:' .. id,
    'u:' .. id)
  if not f[1] or (f[3] == '0' and tonumber(f[8]) <= clock) then return false end
  return {f[1], f[2], f[3] and 1 or 0, f[4] and 1 or 0, tonumber(f[5]), tonumber(f[6]), f[7]}
end
local function drop_log(id)
  local upto = tonumber(call('HGET', log, 'n:' .. id) or 0)
  for at = 0, upto - 1, 1000 do
    local names = {}
    for n = at, math.min(at + 999, upto - 1) do names[#names + 1] = 'g:' .. id .. ':' .. n end
    call('HDEL', log, unpack(names))
  end
  call('HDEL', log, 'u:' .. id)
  call('ZREM', ends, id)
end
local function drop_run(id)
  drop_log(id)
  call('HDEL', log, 'o:' .. id, 's:' .. id, 'e:' .. id, 'c:' .. id, 't:' .. id, 'n:' .. id, 'i:' .. id)
end
local function spare(key)
  local backstop = call('HGET', r, 'B')
  if backstop then call('PEXPIREAT', key, backstop) end
end
"""
"""Runs stand in two keys of their own beside the ref's hash. Of the hash `:r` the fields are

    o:ID owner   s:ID state   e:ID it has ended (1: it stays, 0: it goes with its log)   c:ID it shall end
    t:ID last heard of   n:ID how many events   i:ID the ref   u:ID when the log goes   g:ID:N event

and `:u` is a sorted set of the runs that have ended and whose logs are kept, scored by when they go. ARGV[2] is the
time, or nothing: the server's."""
