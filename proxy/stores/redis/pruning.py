"""The scripts that erase a part of a ref: what entries held, or entries that nobody needs any more."""

from proxy.stores.redis.script import CHAIN, ENTRY, ERASE, RUN, Script

_PARTS = """
-- of a packed entry or summary: ids of 32 letters at fixed places, behind the head of a list, two bytes before each
local function raw(hex) return (string.gsub(hex, '..', function(two) return string.char(tonumber(two, 16)) end)) end
local function id_of(blob) return raw(string.sub(blob, 4, 35)) end
local function second_of(blob)
  -- an entry's parent, if it has one; a summary's entry
  return string.byte(blob, 36) == 217 and raw(string.sub(blob, 38, 69)) or nil
end
local WIDTHS = {[0xcc] = 1, [0xcd] = 2, [0xce] = 4, [0xcf] = 8}
local LENGTHS = {[0xc4] = '>I1', [0xc5] = '>I2', [0xc6] = '>I4'}
local function digest_of(row)
  -- behind the parent stand the wire, five numbers and a flag (MessagePack: numbers up to 127 are one byte)
  local at = string.byte(row, 36) == 217 and 70 or 37
  for n = 1, 8 do
    local kind = string.byte(row, at)
    if LENGTHS[kind] then
      local length, from = struct.unpack(LENGTHS[kind], row, at + 1)
      if n == 8 then return string.sub(row, from, from + length - 1) end
      at = from + length
    else
      at = at + 1 + (WIDTHS[kind] or 0)
    end
  end
end
local function replays(gone)
  local f = call('HMGET', r, 'h', 'y', 'Y')
  if f[1] and gone[f[1]] then call('HDEL', r, 'L', 'l') end
  for j = tonumber(f[2]) or 0, (tonumber(f[3]) or 0) - 1 do
    local key = call('HGET', r, 'y:' .. j)
    local kept = key and call('HGET', r, 'k:' .. key)
    -- the last that is packed is the entry's id
    if kept and gone[raw(string.sub(kept, -32))] then call('HDEL', r, 'k:' .. key) end
  end
end
local function summaries(keep)
  local kept = 0
  for n = 0, tonumber(call('HGET', r, 'U') or 0) - 1 do
    local f = call('HMGET', r, 'u:' .. n, 'o:' .. n)
    call('HDEL', r, 'u:' .. n, 'o:' .. n, 'U:' .. id_of(f[1]))
    if keep(second_of(f[1])) then
      call('HSET', r, 'U:' .. id_of(f[1]), kept, 'u:' .. kept, f[1], 'o:' .. kept, f[2])
      kept = kept + 1
    end
  end
  if kept > 0 then call('HSET', r, 'U', kept) else call('HDEL', r, 'U') end
end
local function unindex()
  local index = {r .. ':x'}
  for model in string.gmatch(call('HGET', r, 'M') or '', '%x+') do
    index[#index + 1] = r .. ':n:' .. model
    index[#index + 1] = r .. ':v:' .. model
  end
  call('UNLINK', unpack(index))
  call('HDEL', r, 'M')
end
local function forget(gone)
  replays(gone)
  for id in pairs(gone) do
    if call('HGET', log, 'e:' .. id) then drop_run(id) end
  end
  unindex()
  call('HINCRBY', r, 'V', 1)
end
"""

REDACT = Script(
    """
if not alive() then return 0 end
local preamble, rules = ARGV[3], ARGV[4]
local gone, addresses = {}, {}
for a = 5, #ARGV, 4 do
  local address = call('HGET', r, 'i:' .. ARGV[a])
  if not address then return 0 end
  addresses[a] = address
  gone[ARGV[a]] = true
end
local head = call('HGET', r, 'H')
for a = 5, #ARGV, 4 do
  local address = addresses[a]
  call('HSET', r, 'e:' .. address, ARGV[a + 1], 'm:' .. address, ARGV[a + 2])
  if ARGV[a + 3] == '' then call('HDEL', r, 'z:' .. address) else call('HSET', r, 'z:' .. address, ARGV[a + 3]) end
  if address == head then call('HSET', r, 'D', ARGV[a + 2]) end
end
if preamble ~= '' and call('HEXISTS', r, 'p:' .. preamble) == 1 then call('HSET', r, 'p:' .. preamble, rules) end
summaries(function() return false end)
forget(gone)
return 1
""",
    ENTRY,
    RUN,
    _PARTS,
)
"""The preamble's id and what takes its place, both perhaps empty; then for each entry its id, what takes its place, the
facts of that, and the note. Answers 1 if it was done."""

PRUNE = Script(
    """
local address = alive() and call('HGET', r, 'i:' .. ARGV[3])
if not address then return {0} end
call('HDEL', r, 'z:' .. address)
-- what goes of a branch is its end, behind the last entry that has a note or that a branch which stays has left;
-- a branch has a higher number than the one that it leaves
local lengths, last, cut = {}, {}, {}
for b = tonumber(call('HGET', r, 'Q') or 0) - 1, 0, -1 do
  local length = tonumber(call('HGET', r, 'n:' .. b) or 0)
  local top = last[b] or -1
  for i = length - 1, top + 1, -1 do
    if call('HEXISTS', r, 'z:' .. b .. '.' .. i) == 1 then
      top = i
      break
    end
  end
  if top < length - 1 then cut[b] = top + 1 end
  lengths[b] = top + 1
  local under, at = parent(b)
  if top >= 0 and under then last[under] = math.max(last[under] or -1, at) end
end
local function stays(place)
  local b, i = split(place)
  if b then return i < lengths[b] end
  if not place or call('HEXISTS', r, 'z:' .. place) == 0 then return false end
  local above_it = second_of(call('HGET', r, 'e:' .. place))
  b, i = split(above_it and call('HGET', r, 'i:' .. above_it))
  return not above_it or (b and i < lengths[b])
end
local names = {}
for n = 1, tonumber(call('HGET', r, 'N') or 0) do names[n] = 's:' .. n end
local gone, rest, head, digests, places, preambles, any = {}, {}, nil, {}, {}, {}, false
for n, place in ipairs(gather(r, names)) do
  if place and stays(place) then
    rest[#rest + 1] = place
    if split(place) then head = place end
  elseif place then
    local f = call('HMGET', r, 'e:' .. place, 'm:' .. place)
    local id = id_of(f[1])
    any, gone[id] = true, true
    if split(place) then
      digests[digest_of(f[1])] = true
      places[(struct.unpack('>I4', f[2]))] = true
    end
    preambles[struct.unpack('>Bc0', f[2], 21)] = true
    call('HDEL', r, 's:' .. n, 'i:' .. id, 'e:' .. place, 'm:' .. place, 'a:' .. place, 'z:' .. place)
  end
end
if not any then return {1} end
if #rest == 0 then
  local f = call('HMGET', r, 'G', 'R', 'J', 'j')
  erase(ARGV[4])
  return {1, unpack(f, 1, 4)}
end
for b, length in pairs(cut) do
  if length > 0 then call('HSET', r, 'n:' .. b, length) else call('HDEL', r, 'n:' .. b, 'b:' .. b) end
end
for digest in pairs(digests) do call('HDEL', r, 'd:' .. digest) end
names = {}
for n, place in ipairs(rest) do names[n] = 'm:' .. place end
for n, facts in ipairs(gather(r, names)) do
  preambles[struct.unpack('>Bc0', facts, 21)] = nil
  if split(rest[n]) and places[(struct.unpack('>I4', facts))] then
    -- entries that end alike stand at one position; the newest comes last
    local row = call('HGET', r, 'e:' .. rest[n])
    local digest = digest_of(row)
    if digests[digest] then call('HSET', r, 'd:' .. digest, id_of(row)) end
  end
end
for preamble in pairs(preambles) do call('HDEL', r, 'p:' .. preamble) end
summaries(function(entry) return not gone[entry] end)
forget(gone)
if gone[call('HGET', r, 'h')] then
  if head then
    local f = call('HMGET', r, 'e:' .. head, 'm:' .. head)
    call('HSET', r, 'H', head, 'h', id_of(f[1]), 'D', f[2])
  else
    call('HDEL', r, 'H', 'h', 'D')
  end
end
return {1}
""",
    ENTRY,
    CHAIN,
    ERASE,
    RUN,
    _PARTS,
)
"""Answers 0; or 1, and if the ref is erased its generation, its member of the list of refs, the list of labels and its
member there."""
