"""The scripts that write: append, summaries, replays, erasing, the sweep. Fields are explained in `script.py`."""

from proxy.stores.contract import STICKY_MS
from proxy.stores.redis.lines import LINE
from proxy.stores.redis.script import BACKSTOP, CHAIN, ENTRY, ERASE, RUN, SLACK_MS, Script

__all__ = ["SLACK_MS"]

_BEGINNING = """
local id, parent_id, expected, moves = ARGV[2], ARGV[3], ARGV[4], ARGV[5] == '1'
local row, facts, plan, digest, preamble, rules = ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10], ARGV[11]
local whole, expires, kind, key, replay = ARGV[12] == '1', tonumber(ARGV[13]), ARGV[14], ARGV[15], ARGV[16]
local generation, member, due, guarded = ARGV[17], ARGV[18], ARGV[19], ARGV[20] == '1'
local note, ident = ARGV[21], ARGV[22]
local f = call('HMGET', r, 'G', 'E', 'h', 'N', 'Q', 'q', 'B', 'L', 'Y', 'V')
local known = f[1] and not over(f[2])
if known and call('HEXISTS', r, 'i:' .. id) == 1 then return {1} end
local head = known and f[3] or ''
"""
_REST = f"""
if moves and expected ~= head then return {{2, head}} end
local b, i
if parent_id ~= '' then
  if known then b, i = place(parent_id) end
  if not b then return {{2, head}} end
end
if not known and generation == '' then return {{2, ''}} end
local set = {{}}
local function put(name, value)
  set[#set + 1] = name
  set[#set + 1] = value
end
if not known then
  if f[1] then
    erase(due)
    f = {{}}
  end
  put('G', generation)
  put('R', member)
  put('I', ident)
  put('C', ARGV[1])
end
local n = (tonumber(f[4]) or 0) + 1
put('N', n)
put('T', ARGV[1])
local address = '-' .. n
if moves then
  local branches = tonumber(f[5]) or 0
  if b and tonumber(call('HGET', r, 'n:' .. b)) == i + 1 then
    i = i + 1
  else
    if b then put('b:' .. branches, b .. '.' .. i .. '.' .. fact(b, i, UPTO)) end
    b, i = branches, 0
    put('Q', branches + 1)
  end
  address = b .. '.' .. i
  put('n:' .. b, i + 1)
  put('H', address)
  put('h', id)
  put('D', facts)
  put('d:' .. digest, id)
end
put('i:' .. id, address)
put('e:' .. address, row)
put('m:' .. address, facts)
put('s:' .. n, address)
if plan ~= '' then put('a:' .. address, plan) end
if note ~= '' then put('z:' .. address, note) end
-- where something was erased, another may be kept under its id, until it is sent again
if preamble ~= '' and (f[10] or call('HEXISTS', r, 'p:' .. preamble) == 0) then put('p:' .. preamble, rules) end
if whole then put('W', 1) end
local look = expires
if kind == 's' then
  local j = tonumber(f[9]) or 0
  put('Y', j + 1)
  put('y:' .. j, key)
  put('k:' .. key, struct.pack('>I4d', j, now) .. replay)
  look = math.min(expires or math.huge, now + {STICKY_MS})
end
if moves and kind == 'l' then
  put('L', key)
  put('l', replay)
end
if expires then put('E', expires) end
local sooner = look and (not f[6] or look < tonumber(f[6]))
if sooner then put('q', look) end
call('HSET', r, unpack(set))
if moves and kind ~= 'l' and f[8] then call('HDEL', r, 'L', 'l') end
if not expires and f[2] then call('HDEL', r, 'E') end
if guarded then backstop(expires, tonumber(f[7])) end
local g = f[1] or generation
if KEYS[2] then
  if not f[1] and member ~= '' then call('ZADD', KEYS[2], 0, member) end
  if sooner then call('ZADD', KEYS[3], look, due .. g) end
end
return {{0, g, sooner and look or false}}
"""
_PARTS = ENTRY, CHAIN, ERASE, BACKSTOP

APPEND = Script(_BEGINNING + _REST, *_PARTS)
"""Answers 0 (done; the generation; when to look at it, if sooner than was known), 1 (again), or 2 and the head. Without
a generation the ref is not made."""

APPEND_HELD = Script(
    """
local holder, at = ARGV[23], line_clock(tonumber(ARGV[24]))
local function add()
"""
    + _BEGINNING
    + """
local first = call('ZRANGE', order, 0, 0)[1]
if first and first ~= holder then return {2, head} end
"""
    + _REST
    + """
end
if lapse(at) then tell() end
local answer = add()
if answer[1] < 2 and leave(holder) then tell() end
return answer
""",
    *_PARTS,
    LINE,
)
"""As `APPEND`, by one that must not have been overtaken in the line."""

ERASE_REF = Script(
    """
local f = call('HMGET', r, 'G', 'R', 'J', 'j')
local known = alive()
erase(ARGV[2])
return {known and 1 or 0, unpack(f, 1, 4)}
""",
    ENTRY,
    ERASE,
)

SWEEP = Script(
    f"""
local limit, generation, due = tonumber(ARGV[3]), ARGV[4], ARGV[5]
local f = call('HMGET', r, 'G', 'E', 'y', 'Y', 'R', 'J', 'j')
if f[1] ~= generation then
  if KEYS[2] then call('ZREM', KEYS[3], due .. generation) end
  return {{0, false, false}}
end
if over(f[2]) then
  erase(due)
  return {{1, false, f[5], f[6], f[7]}}
end
local first, last, gone, look = tonumber(f[3]) or 0, tonumber(f[4]) or 0, 0, tonumber(f[2])
while first < last do
  local key = call('HGET', r, 'y:' .. first)
  local kept = call('HGET', r, 'k:' .. key)
  local j, at
  if kept then j, at = struct.unpack('>I4d', kept) end
  if j == first then
    if gone >= limit or at > now - {STICKY_MS} then
      look = math.min(look or math.huge, at + {STICKY_MS})
      break
    end
    call('HDEL', r, 'k:' .. key)
    gone = gone + 1
  end
  call('HDEL', r, 'y:' .. first)
  first = first + 1
end
call('HSET', r, 'y', first)
if gone < limit then
  for _, id in ipairs(call('ZRANGEBYSCORE', ends, '-inf', clock, 'LIMIT', 0, limit - gone)) do
    if call('HGET', log, 'e:' .. id) == '0' then drop_run(id) else drop_log(id) end
    gone = gone + 1
  end
end
local soonest = call('ZRANGE', ends, 0, 0, 'WITHSCORES')[2]
if soonest then
  soonest = tonumber(soonest)
  -- who asks may think that it is later than the server does; and shall not find the same again and again
  if soonest > clock then soonest = math.max(soonest, clock == now and 0 or now + 1000) end
  look = math.min(look or math.huge, soonest)
end
if look then
  call('HSET', r, 'q', look)
  if KEYS[2] then call('ZADD', KEYS[3], look, due .. generation) end
else
  call('HDEL', r, 'q')
  if KEYS[2] then call('ZREM', KEYS[3], due .. generation) end
end
return {{gone, look or false, false}}
""",
    ERASE,
    RUN,
)
"""Answers how much was erased; when to look again; and of a ref that was erased its member of the list of refs, the
list of labels and its member there."""

DELIVER = Script("if call('HGET', r, 'L') == ARGV[2] then call('HDEL', r, 'L', 'l') end")

KEEP = Script(
    """
if not alive() or not place(ARGV[3]) or (call('HGET', r, 'V') or '0') ~= ARGV[6] then return 0 end
if call('HEXISTS', r, 'U:' .. ARGV[2]) == 0 then
  local n = tonumber(call('HGET', r, 'U') or 0)
  call('HSET', r, 'U', n + 1, 'U:' .. ARGV[2], n, 'u:' .. n, ARGV[5], 'o:' .. n, ARGV[4])
end
return 1
""",
    ENTRY,
)

ANNOTATE = Script(
    """
local address = alive() and call('HGET', r, 'i:' .. ARGV[2])
if not address then return 0 end
if ARGV[3] == '' then call('HDEL', r, 'z:' .. address) else call('HSET', r, 'z:' .. address, ARGV[3]) end
return 1
""",
    ENTRY,
)
