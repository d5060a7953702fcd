"""A Lua script and the digest by which a server that has seen it knows it; and what several scripts share.

All scripts work on the keys of one ref, which lie in one slot. KEYS: the ref's hash, and, on a server that is no
cluster, the list of all refs and the set of what is due. Its other keys, of the index, are made of the first: named
beside it, those that do not exist would make a cluster refuse appends and loads while the slot moves (TRYAGAIN).
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

Facts: upto, turn, resume (0xFFFFFFFF: no anchor) in 4 bytes each, tokens_upto as a double, all big-endian; then the
preamble's id, the anchor's key and the id of the anchor's summary, with their lengths in front.
"""

from hashlib import sha1


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
local function rows(parts)
  local names = {}
  for p = #parts, 1, -1 do
    local b = 'e:' .. parts[p][1] .. '.'
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
  local all = {r, r .. ':x'}
  for model in string.gmatch(call('HGET', r, 'M') or '', '%x+') do
    all[#all + 1] = r .. ':n:' .. model
    all[#all + 1] = r .. ':v:' .. model
  end
  return all
end
local function erase(due)
  if KEYS[2] then
    local f = call('HMGET', r, 'G', 'R')
    if f[1] then call('ZREM', KEYS[3], due .. f[1]) end
    if f[2] and f[2] ~= '' then call('ZREM', KEYS[2], f[2]) end
  end
  call('UNLINK', unpack(keys()))
end
"""
