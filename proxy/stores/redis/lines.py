"""The scripts of lines: who stands in one, and until when.

A line is two sorted sets beside the ref's hash (which need not exist): `:w` its holders in their order, `:t` until when
each keeps its place. The server removes both when the last place has lapsed. Times are the server's. Who waits is told
by a message on the channel of the store, which in a cluster reaches every node; it names the ref's hash.
"""

from proxy.stores.redis.script import Script

LINE = """
local order, times = r .. ':w', r .. ':t'
local function line_clock(told)
  if told then return told end
  local time = call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function lapse(at)
  local gone = call('ZRANGEBYSCORE', times, '-inf', at, 'LIMIT', 0, 1000)
  if #gone == 0 then return false end
  call('ZREM', order, unpack(gone))
  call('ZREM', times, unpack(gone))
  return true
end
local function leave(holder)
  call('ZREM', times, holder)
  return call('ZREM', order, holder) == 1
end
local function tell()
  -- a user who may not publish: those who wait ask by themselves
  if call('EXISTS', order) == 1 then redis.pcall('PUBLISH', string.sub(r, 1, -36) .. ':moved', r) end
end
"""
"""KEYS[1] ends with a colon, and the ref's tag, of 32 digits, in braces."""

LINE_UP = Script(
    """
local holder, keep, wait, guarded = ARGV[3], tonumber(ARGV[4]), ARGV[5] == '1', ARGV[2] == ''
local clock = line_clock(tonumber(ARGV[2]))
if lapse(clock) then tell() end
local ahead, kept = call('ZRANK', order, holder), true
if not ahead then
  ahead = call('ZCARD', order)
  kept = ahead == 0 or wait
  if kept then
    local last = call('ZRANGE', order, -1, -1, 'WITHSCORES')
    call('ZADD', order, (tonumber(last[2]) or 0) + 1, holder)
  end
end
if kept then
  call('ZADD', times, clock + keep, holder)
  if guarded and call('PTTL', order) < keep then
    call('PEXPIRE', order, keep)
    call('PEXPIRE', times, keep)
  end
end
if ahead == 0 then return {0, 1, 0} end
local until_ = call('ZSCORE', times, call('ZRANGE', order, 0, 0)[1])
return {ahead, kept and 1 or 0, until_ - clock}
""",
    LINE,
)
"""Answers how many stand before it, whether it has a place, and how long the first one has its own, in milliseconds."""

STEP_OUT = Script("if leave(ARGV[2]) then tell() end", LINE)
