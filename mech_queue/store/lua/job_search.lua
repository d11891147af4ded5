-- One bounded step of a search: walk the rarest group of index entries, look the others up.
--   args: groups list of lists of index prefixes (and over groups, or inside one), states '' or letters (used when no
--     queue is given), task or nil, ascending, cursor (seq8, exclusive) or '', low, high (seq numbers), limit, budget, bytes,
--     ids: true for the ids only
--   answer, packed: {views or ids, cursor to go on or '' at the end}
--@no-writes
--@include lib/view
local low, high = seq8(args.low), seq8(args.high)                -- inclusive bounds
if args.cursor ~= '' then
  if args.ascending then low = seq8(from_seq8(args.cursor) + 1) else high = seq8(from_seq8(args.cursor) - 1) end
end
local IX = P .. 'ix'
local MOST_QUEUES = 32

-- states without a queue: the queues that have such jobs, or nil when they are too many to be walked together
local function queues_with(letters)
  local group = {}
  for letter in string.gmatch(letters, '.') do
    local from = '[s' .. letter
    while true do
      local entry = call('ZRANGEBYLEX', IX, from, '(s' .. letter .. '\255', 'LIMIT', 0, 1)[1]
      if not entry then break end
      if #group == MOST_QUEUES then return nil end
      local prefix = string.sub(entry, 1, -9)
      group[#group + 1] = prefix
      from = '(' .. prefix .. '\255'
    end
  end
  return group
end
local by_state = args.states ~= '' and queues_with(args.states)
if by_state then args.groups[#args.groups + 1] = by_state end

local function size(group)
  local n = 0
  for _, prefix in ipairs(group) do n = n + call('ZLEXCOUNT', IX, '[' .. prefix .. low, '[' .. prefix .. high) end
  return n
end
for _, group in ipairs(args.groups) do group.size = size(group) end
table.sort(args.groups, function(a, b) return a.size < b.size end)
local driver = args.groups[1]

-- the next candidates (seq8) of the driver in order; `more` when it may have others beyond
local function candidates(most)
  local found = {}
  if not driver then
    local command = args.ascending and 'ZRANGEBYSCORE' or 'ZREVRANGEBYSCORE'
    local from, to = int(from_seq8(low)), int(from_seq8(high))
    if not args.ascending then from, to = to, from end
    local pairs_ = call(command, P .. 'all', from, to, 'WITHSCORES', 'LIMIT', 0, most)
    for i = 2, #pairs_, 2 do found[#found + 1] = seq8(tonumber(pairs_[i])) end
    return found, #found == most
  end
  local more = false
  for _, prefix in ipairs(driver) do
    local part
    if args.ascending then
      part = call('ZRANGEBYLEX', IX, '[' .. prefix .. low, '[' .. prefix .. high, 'LIMIT', 0, most)
    else
      part = call('ZREVRANGEBYLEX', IX, '[' .. prefix .. high, '[' .. prefix .. low, 'LIMIT', 0, most)
    end
    more = more or #part == most
    for _, entry in ipairs(part) do found[#found + 1] = string.sub(entry, #prefix + 1) end
  end
  if #driver > 1 then
    table.sort(found, function(a, b) if args.ascending then return a < b else return a > b end end)
    for i = most + 1, #found do found[i] = nil more = true end
  end
  return found, more
end

local function keep(found, group)
  local kept = {}
  local hit = {}
  for _, prefix in ipairs(group) do
    if #found > 0 then
      local entries = {}
      for i, seq in ipairs(found) do entries[i] = prefix .. seq end
      for i, score in ipairs(call('ZMSCORE', IX, unpack(entries))) do if score then hit[i] = true end end
    end
  end
  for i, seq in ipairs(found) do if hit[i] then kept[#kept + 1] = seq end end
  return kept
end

-- what the walk did not look at: the state; and the task, since the entry of a queue stands also for its other tasks
local states = args.states ~= '' and driver ~= by_state and args.states
local function fits(id)
  if not args.task and not states then return true end
  local v = call('HMGET', P .. 'j:' .. id, 't', 'q', 's')
  return (not args.task or (v[1] or v[2]) == args.task) and (not states or string.find(states, v[3], 1, true))
end

local views, looked, weight, cursor = {}, 0, 0, ''
local function add(seq)
  local id = call('ZRANGEBYSCORE', P .. 'all', int(from_seq8(seq)), int(from_seq8(seq)))[1]
  if not id or not fits(id) then return end
  local seen = args.ids and id or view(id)
  if not seen then return end
  views[#views + 1] = seen
  if args.ids then return end
  weight = weight + #seen[3]
  for _, text in ipairs(seen[4]) do weight = weight + #text end
end
local chunk = math.max(16, math.min(256, args.limit, driver and math.floor(512 / #driver) or 256))
while true do
  local found, more = candidates(chunk)
  looked = looked + #found
  local last = found[#found]
  local live = found
  for i = 2, #args.groups do
    if #live == 0 then break end
    if args.groups[i] ~= by_state then live = keep(live, args.groups[i]) end
  end
  local full = false
  for _, seq in ipairs(live) do
    add(seq)
    if #views >= args.limit or weight >= args.bytes then
      cursor = seq
      full = true
      break
    end
  end
  if full then break end
  if not more then break end
  if looked >= args.budget then cursor = last break end
  if args.ascending then low = seq8(from_seq8(last) + 1) else high = seq8(from_seq8(last) - 1) end
end
return {0, cmsgpack.pack({views, cursor})}
