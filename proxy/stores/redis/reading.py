"""The scripts that read the chain. Fields are explained in `script.py`."""

from proxy.stores.redis.script import CHAIN, ENTRY, Script

LOAD = Script(
    """
local id, key, reach = ARGV[2], ARGV[3], tonumber(ARGV[4])
local f = call('HMGET', r, 'E', 'h', 'H', 'W', 'U', 'G', 'V')
if not f[2] or over(f[1]) then return false end
local whole, kept, revision = f[4] and 1 or 0, tonumber(f[5] or 0), f[7] or '0'
if ARGV[5] == f[6] .. f[2] .. kept .. '.' .. revision then return {whole} end
local b, i
if id == '' then b, i = split(f[3]) else b, i = place(id) end
if not b then return false end
local facts = call('HGET', r, 'm:' .. b .. '.' .. i)
local upto, turn, resume, tokens, at = struct.unpack('>I4I4I4d', facts)
local preamble, anchor, named = struct.unpack('>Bc0Hc0Bc0', facts, at)
local what, low = UPTO, 0
if resume ~= 4294967295 and anchor == key then
  low = resume
elseif reach then
  what, low = TOKENS, tokens - reach
end
local parts, on, to, first = {}, b, i, 0
while on do
  local from = above(on, to, what, low)
  if from <= to then parts[#parts + 1] = {on, from, to} end
  if from > 0 then
    first = fact(on, from - 1, UPTO)
    break
  end
  on, to = parent(on)
end
if #parts == 0 then
  parts = {{b, i, i}}
  first = 0
end
local blobs = {}
if kept > 0 then
  local since = named ~= '' and tonumber(call('HGET', r, 'U:' .. named) or false)
  local names, wanted = {}, {}
  for n = since or 0, kept - 1 do names[#names + 1] = 'o:' .. n end
  for n, position in ipairs(gather(r, names)) do
    if n == 1 and since or tonumber(position) > first then
      wanted[#wanted + 1] = 'u:' .. ((since or 0) + n - 1)
    end
  end
  blobs = gather(r, wanted)
end
local rules = preamble ~= '' and call('HGET', r, 'p:' .. preamble)
return {whole, f[2], f[6], rules, rows(parts), kept, blobs, tonumber(revision)}
""",
    ENTRY,
    CHAIN,
)
"""Answers nothing; or just whether the ref is whole, if it stands where the asker thinks (ARGV[5]: generation, head's
id, number of summaries, revision); or that, the ref's head, its generation, the preamble, the entries, how many
summaries there are, those that may be shown, and the revision."""

_BETWEEN = """
local function between(b, i, first, upto)
  local parts = {}
  while b do
    local under, at, border = parent(b)
    if border < upto then
      local from = above(b, i, UPTO, first)
      local to = math.min(i, above(b, i, UPTO, upto - 1))
      if from <= to then parts[#parts + 1] = {b, from, to} end
      if from > 0 then break end
    end
    b, i = under, at
  end
  return parts
end
"""

RANGE = Script(
    """
local b, i
if alive() then b, i = place(ARGV[2]) end
return rows(between(b, i, tonumber(ARGV[3]), tonumber(ARGV[4])))
""",
    ENTRY,
    CHAIN,
    _BETWEEN,
)

NOTED = Script(
    """
local b, i
if alive() then b, i = split(call('HGET', r, 'H')) end
local parts = between(b, i, tonumber(ARGV[2]), tonumber(ARGV[3]))
return {rows(parts), rows(parts, 'z:')}
""",
    ENTRY,
    CHAIN,
    _BETWEEN,
)

TURN = Script(
    """
local f = call('HMGET', r, 'E', 'H')
if not f[2] or over(f[1]) then return false end
local turn, after = tonumber(ARGV[2]), false
local b, i = split(f[2])
while b do
  local at = above(b, i, TURN, turn)
  if at <= i then after = call('HGET', r, 'e:' .. b .. '.' .. at) end
  if at > 0 then return {call('HGET', r, 'e:' .. b .. '.' .. (at - 1)), after} end
  b, i = parent(b)
end
return {false, after}
""",
    CHAIN,
)

RECORDS = Script(
    """
local f = call('HMGET', r, 'G', 'E', 'N')
if not f[1] or over(f[2]) or (ARGV[2] ~= '' and ARGV[2] ~= f[1]) then return false end
local from, upto = tonumber(ARGV[3]), math.min(tonumber(ARGV[4]), tonumber(f[3] or 0))
local names = {}
for n = from, upto do names[#names + 1] = 's:' .. n end
local records, rules, seen = {}, {}, {}
for _, address in ipairs(gather(r, names)) do
  -- some may have been pruned
  local got = address and call('HMGET', r, 'e:' .. address, 'a:' .. address, 'm:' .. address)
  if got then
    records[#records + 1] = got[1]
    records[#records + 1] = got[2] or ''
    local preamble = struct.unpack('>Bc0', got[3], 21)
    if preamble ~= '' and not seen[preamble] then
      seen[preamble] = true
      rules[#rules + 1] = preamble
      rules[#rules + 1] = call('HGET', r, 'p:' .. preamble)
    end
  end
end
return {f[1], tonumber(f[3] or 0), records, rules}
""",
    CHAIN,
)
"""Answers the generation, how many entries there were, entries with their plans, and the preambles that these name."""

SUMMARIES = Script(
    """
local names = {}
if alive() then
  for n = 0, tonumber(call('HGET', r, 'U') or 0) - 1 do names[#names + 1] = 'u:' .. n end
end
return gather(r, names)
""",
    ENTRY,
    CHAIN,
)

PICK = Script(
    """
local b, i
if alive() then b, i = place(ARGV[2]) end
local line, names, last = {}, {}, nil
while b do
  line[#line + 1] = {b, i, fact(b, i, UPTO)}
  b, i = parent(b)
end
local part = #line
for n = 3, #ARGV do
  local position = tonumber(ARGV[n])
  while part > 0 and line[part][3] <= position do part = part - 1 end
  if part == 0 then break end
  local name = 'e:' .. line[part][1] .. '.' .. above(line[part][1], line[part][2], UPTO, position)
  if name ~= last then names[#names + 1] = name end
  last = name
end
return gather(r, names)
""",
    ENTRY,
    CHAIN,
)
"""The positions ascend."""

FIND = Script(
    """
local address = alive() and call('HGET', r, 'i:' .. ARGV[2])
return address and call('HMGET', r, 'I', 'e:' .. address, 'z:' .. address)
""",
    ENTRY,
)
