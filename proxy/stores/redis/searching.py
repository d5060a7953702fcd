"""The scripts of the index: words and vectors.

A ref's messages are numbered in the order in which they are indexed, whatever their branches; postings and vectors
name the numbers, and runs tell what they mean: number start + i is position first + i on the branch. Fields of the
index's hash (KIND is "" for words, 16 hex digits for a model):

    c:KIND:BRANCH  how many entries of the branch, its first ones, are indexed    w:ADDRESS  words of the chain up to it
    s:KIND  the next number    j:KIND  how many runs    r:KIND:N  a run: start, branch, first, count, 4 bytes each
    t:TERM  how many full chunks (4 bytes), then the newest postings    T:TERM:N  a full chunk

A posting has 8 bytes, as in the contract, with the message's number in place of its position. A model's vectors are
two strings beside the hash, one of numbers (4 bytes each) and one of vectors, which only ever grow at their ends.
"""

from proxy.stores.redis.script import CHAIN, ENTRY, Script

CHUNK = 512
"""Bytes of postings that are rewritten at most when one is added; what is full is never touched again."""

_INDEX = """
local x = r .. ':x'
local function counted(kind, b) return tonumber(call('HGET', x, 'c:' .. kind .. ':' .. b) or 0) end
"""

_LINE = """
local function line(b, i)
  local tops = {}
  while b do
    tops[#tops + 1] = {b, i, fact(b, i, UPTO)}
    b, i = parent(b)
  end
  return tops
end
local function told(tops)
  local flat = {}
  for _, each in ipairs(tops) do
    flat[#flat + 1] = each[1]
    flat[#flat + 1] = each[3]
  end
  return flat
end
local function runs(kind)
  local names = {}
  for n = 1, tonumber(call('HGET', x, 'j:' .. kind) or 0) do names[n] = 'r:' .. kind .. ':' .. n end
  return table.concat(gather(x, names))
end
"""

INDEX = Script(
    f"""
if not alive() or (call('HGET', r, 'V') or '0') ~= ARGV[2] then return {{2}} end
local touched = {{}}
local function size(b, i)
  local before = 0
  if i > 0 then before = fact(b, i - 1, UPTO) else before = select(3, parent(b)) end
  return before, fact(b, i, UPTO) - before
end
local function next_one(kind, b, i)
  if counted(kind, b) ~= i then return false end
  if i > 0 then return true, b, i - 1 end
  local under, at = parent(b)
  return not under or counted(kind, under) > at, under, at
end
local function number(kind, b, first, count)
  local start, n = tonumber(call('HGET', x, 's:' .. kind) or 0), tonumber(call('HGET', x, 'j:' .. kind) or 0)
  local from, on, at, length
  if n > 0 then from, on, at, length = struct.unpack('>I4I4I4I4', call('HGET', x, 'r:' .. kind .. ':' .. n)) end
  if on ~= b or at + length ~= first then
    n = n + 1
    from, on, at, length = start, b, first, 0
  end
  local run = struct.pack('>I4I4I4I4', from, on, at, length + count)
  call('HSET', x, 's:' .. kind, start + count, 'j:' .. kind, n, 'r:' .. kind .. ':' .. n, run)
  return start
end
local function post(terms, postings, start)
  local names, added = {{}}, {{}}
  for at = 1, #terms, 8 do
    local term = string.sub(terms, at, at + 7)
    if not added[term] then
      names[#names + 1] = 't:' .. term
      added[term] = {{}}
    end
    local posting = struct.unpack('<I8', string.sub(postings, at, at + 7)) + start * 16777216
    table.insert(added[term], struct.pack('<I8', posting))
  end
  for n, kept in ipairs(gather(x, names)) do
    local name = string.sub(names[n], 3)
    local full, tail = 0, table.concat(added[name])
    if kept then
      full = struct.unpack('>I4', kept)
      tail = string.sub(kept, 5) .. tail
    end
    while #tail >= {CHUNK} do
      call('HSET', x, 'T:' .. name .. ':' .. full, string.sub(tail, 1, {CHUNK}))
      full, tail = full + 1, string.sub(tail, {CHUNK + 1})
    end
    call('HSET', x, names[n], struct.pack('>I4', full) .. tail)
  end
end
for a = 3, #ARGV, 8 do
  local count, length = tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2])
  local model, flags = ARGV[a + 5], ARGV[a + 6]
  local b, i = place(ARGV[a])
  if b then
    local first, messages = size(b, i)
    if count ~= 0 and count ~= messages then return {{1, messages, count}} end
    if #flags ~= 0 and #flags ~= messages then return {{1, messages, #flags}} end
    local fits, under, at = next_one('', b, i)
    if count ~= 0 and fits then
      if under then length = length + tonumber(call('HGET', x, 'w:' .. under .. '.' .. at)) end
      call('HSET', x, 'c::' .. b, i + 1, 'w:' .. b .. '.' .. i, length)
      post(ARGV[a + 3], ARGV[a + 4], number('', b, first, count))
    end
    if #flags ~= 0 and next_one(model, b, i) then
      call('HSET', x, 'c:' .. model .. ':' .. b, i + 1)
      local models = call('HGET', r, 'M') or ''
      if not string.find(models, model, 1, true) then call('HSET', r, 'M', models .. ' ' .. model) end
      local start, numbers = number(model, b, first, messages), {{}}
      for n = 1, #flags do
        if string.sub(flags, n, n) == '1' then numbers[#numbers + 1] = struct.pack('<I4', start + n - 1) end
      end
      if #numbers > 0 then
        call('APPEND', r .. ':n:' .. model, table.concat(numbers))
        call('APPEND', r .. ':v:' .. model, ARGV[a + 7])
        touched[#touched + 1] = r .. ':n:' .. model
        touched[#touched + 1] = r .. ':v:' .. model
      end
    end
  end
end
local backstop = call('HGET', r, 'B')
if backstop then
  call('PEXPIREAT', x, backstop)
  for _, key in ipairs(touched) do call('PEXPIREAT', key, backstop) end
end
return {{0}}
""",
    ENTRY,
    CHAIN,
    _INDEX,
)
"""The revision, and for each entry eight arguments: id, how many messages have words, their length, terms, postings,
model, for each message 1 if it has a vector, vectors. Answers 0; 1 with the number of messages that one has and the
wrong one; or 2: of another revision."""

UNINDEXED = Script(
    """
local kind, most, b, i = ARGV[3], tonumber(ARGV[4]), nil, nil
if alive() then b, i = place(ARGV[2]) end
local open, count = {}, 0
while b do
  local done = counted(kind, b)
  if done <= i then open[#open + 1] = {b, done, i} end
  if done > 0 then break end
  b, i = parent(b)
end
local parts = {}
for n = #open, 1, -1 do
  local from, to = open[n][2], math.min(open[n][3], open[n][2] + most - count - 1)
  if from <= to then
    table.insert(parts, 1, {open[n][1], from, to})
    count = count + to - from + 1
  end
end
return {tonumber(call('HGET', r, 'V') or 0), rows(parts)}
""",
    ENTRY,
    CHAIN,
    _INDEX,
)

POSTINGS = Script(
    """
local b, i
if alive() then b, i = place(ARGV[2]) end
if not b then return false end
local tops, length = line(b, i), 0
for _, each in ipairs(tops) do
  local done = counted('', each[1])
  if done > 0 then
    length = tonumber(call('HGET', x, 'w:' .. each[1] .. '.' .. math.min(each[2], done - 1)))
    break
  end
end
local names, found = {}, {}
for n = 3, #ARGV do names[#names + 1] = 't:' .. ARGV[n] end
for n, kept in ipairs(gather(x, names)) do
  if kept then
    local chunks = {}
    for k = 1, (struct.unpack('>I4', kept)) do chunks[k] = 'T:' .. ARGV[n + 2] .. ':' .. (k - 1) end
    found[n] = table.concat(gather(x, chunks)) .. string.sub(kept, 5)
  else
    found[n] = ''
  end
end
return {tops[1][3], length, told(tops), runs(''), found}
""",
    ENTRY,
    CHAIN,
    _INDEX,
    _LINE,
)
"""Answers the chain's messages and words, its branches with the positions up to which it runs along them, the runs,
and for each term its postings."""

VECTORS = Script(
    """
local b, i
if alive() then b, i = place(ARGV[2]) end
if not b then return false end
local numbers, vectors = call('GET', r .. ':n:' .. ARGV[3]), call('GET', r .. ':v:' .. ARGV[3])
return {told(line(b, i)), runs(ARGV[3]), numbers or '', vectors or ''}
""",
    ENTRY,
    CHAIN,
    _INDEX,
    _LINE,
)
