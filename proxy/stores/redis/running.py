"""The scripts of labels, and of runs and their logs. Fields are explained in `script.py`."""

from proxy.stores.redis.script import BACKSTOP, CHAIN, ENTRY, ERASE, RUN, Script

_MAKE = """
local function make(generation, member, ident, due, expires, guarded)
  if call('EXISTS', r) == 1 then erase(due) end
  call('HSET', r, 'G', generation, 'R', member, 'I', ident, 'C', now, 'T', now)
  if expires then
    call('HSET', r, 'E', expires, 'q', expires)
    if guarded then backstop(expires) end
  end
  if KEYS[2] then
    if member ~= '' then call('ZADD', KEYS[2], 0, member) end
    if expires then call('ZADD', KEYS[3], expires, due .. generation) end
  end
end
"""
"""A ref without a head, in the place of one that is over."""

LABEL = Script(
    """
local label, new, list, prefix, sure = ARGV[2], ARGV[3] == '1', ARGV[4], ARGV[5], ARGV[6]
local generation, member, ident, due, expires, guarded = unpack(ARGV, 7, 12)
if new then
  if alive() then return {0} end
  make(generation, member, ident, due, tonumber(expires), guarded == '1')
elseif not alive() then
  return {0}
end
local f = call('HMGET', r, 'G', 'C', 'J')
if not f[3] then
  if KEYS[2] then
    call('ZADD', list, f[2], prefix .. f[1])
  elseif not new and sure ~= f[1] then
    return {2, f[1], tonumber(f[2])}
  end
  call('HSET', r, 'J', list, 'j', prefix .. f[1])
end
call('HSET', r, 'A', label)
return {1}
""",
    ENTRY,
    ERASE,
    BACKSTOP,
    _MAKE,
)
"""Answers 1 if it was done. 2, the generation and the time of making: nothing was done; in a cluster the list of labels
lies elsewhere, so a ref that never had a label is named there first, and this asked again."""

BEGIN = Script(
    """
local id, owner, state, ref, recorded, conversation = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8] == '1'
local generation, member, ident, due, expires, guarded = unpack(ARGV, 9, 14)
expires = tonumber(expires)
local made = not alive()
if made then
  if conversation or recorded == '1' then return {0} end
  make(generation, member, ident, due, expires, guarded == '1')
elseif run(id) or call('HEXISTS', r, 'i:' .. id) ~= tonumber(recorded) then
  return {0}
end
drop_run(id)
call('HSET', log, 'o:' .. id, owner, 's:' .. id, state, 't:' .. id, clock, 'n:' .. id, 0, 'i:' .. id, ref)
spare(log)
if KEYS[2] then call('ZADD', KEYS[4], clock, due .. id) end
return {1, made and expires and generation or false}
""",
    ENTRY,
    ERASE,
    BACKSTOP,
    _MAKE,
    RUN,
)
"""Answers 0; or 1, and the generation of a ref that was made and will expire."""

LOG = Script(
    """
local id, owner, due, stays, until_ = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local at = alive() and run(id)
if not at or at[1] ~= owner or at[3] == 1 then return false end
local upto = at[6]
for a = 9, #ARGV, 500 do
  local set = {}
  for n = a, math.min(a + 499, #ARGV) do
    set[#set + 1] = 'g:' .. id .. ':' .. upto
    set[#set + 1] = ARGV[n]
    upto = upto + 1
  end
  call('HSET', log, unpack(set))
end
call('HSET', log, 't:' .. id, clock, 'n:' .. id, upto)
if ARGV[8] ~= '' then call('HSET', log, 's:' .. id, string.sub(ARGV[8], 2)) end
local look, generation = false, call('HGET', r, 'G')
if stays ~= '' then
  until_ = clock + tonumber(until_)
  call('HSET', log, 'e:' .. id, stays, 'u:' .. id, until_)
  call('ZADD', ends, until_, id)
  spare(ends)
  local known = call('HGET', r, 'q')
  if not known or until_ < tonumber(known) then
    look = until_
    call('HSET', r, 'q', look)
    if KEYS[2] then call('ZADD', KEYS[3], look, due .. generation) end
  end
end
if KEYS[2] then
  if stays == '' then call('ZADD', KEYS[4], clock, due .. id) else call('ZREM', KEYS[4], due .. id) end
end
at[2] = call('HGET', log, 's:' .. id)
at[3], at[5], at[6] = stays == '' and 0 or 1, clock, upto
return {at, look, generation}
""",
    ENTRY,
    RUN,
)
"""Behind what it is asked for: the state with a letter before it, or nothing; and events. Answers nothing; or the run,
when to look at the ref, if sooner than was known, and its generation."""

CANCEL = Script(
    """
local id = ARGV[3]
local at = alive() and run(id)
if at and at[3] == 0 then
  call('HSET', log, 'c:' .. id, 1)
  at[4] = 1
end
return at
""",
    ENTRY,
    RUN,
)

DROP = Script(
    """
local id = ARGV[3]
if not alive() or not run(id) then return 0 end
drop_run(id)
if KEYS[2] then call('ZREM', KEYS[4], ARGV[4] .. id) end
return 1
""",
    ENTRY,
    RUN,
)

FIND = Script("return alive() and run(ARGV[3])", ENTRY, RUN)

EVENTS = Script(
    """
local id, after, most = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local at = alive() and run(id)
local till = at and call('HGET', log, 'u:' .. id)
-- a log that was swept has no time, though its run has ended
if not at or (at[3] == 1 and not (till and tonumber(till) > clock)) then return {} end
local names = {}
for n = after + 1, math.min(after + most, at[6] - 1) do names[#names + 1] = 'g:' .. id .. ':' .. n end
return gather(log, names)
""",
    ENTRY,
    CHAIN,
    RUN,
)

STALE = Script(
    """
local id, silent = ARGV[3], tonumber(ARGV[4])
local at = alive() and run(id)
if not at or at[3] == 1 then return {at and 1 or 0} end
if at[5] > clock - silent then return {2, at[5]} end
return {3, at}
""",
    ENTRY,
    RUN,
)
UNKNOWN, ENDED, HEARD, SILENT = range(4)
"""What `STALE` answers; behind `HEARD` when that was, behind `SILENT` the run."""
