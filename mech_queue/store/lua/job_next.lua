-- The waiting jobs of a queue as workers will get them (without keys: exact). args: queue, offset, limit, bytes
--   answer: {views, 1 when there are more}
--@no-writes
--@include lib/view
local queue = queue_load(args.queue)
local views, weight = {}, 0
local function add(seq)
  local id = call('ZRANGEBYSCORE', P .. 'all', int(from_seq8(seq)), int(from_seq8(seq)))[1]
  local seen = id and view(id)
  if seen then
    views[#views + 1] = seen
    weight = weight + #seen[3]
  end
  return #views < args.limit and weight < args.bytes
end
local sequence = {}
if call('EXISTS', queue.turns) == 0 then
  sequence = call('ZRANGE', queue.ring, args.offset, args.offset + args.limit - 1)
else
  -- turns are virtual: play the claims forward on copies of the heads, blocked keys last
  local entries, blocked, virtual = {}, {}, 0
  for member, score in (function()
    local flat, i = call('ZRANGE', queue.ring, 0, args.offset + args.limit, 'WITHSCORES'), -1
    return function() i = i + 2 return flat[i], flat[i + 1] end
  end)() do
    entries[#entries + 1] = {tonumber(score), string.sub(member, 1, 8), string.sub(member, 9), 0}
  end
  local before = function(a, b) if a[1] ~= b[1] then return a[1] < b[1] end return a[2] < b[2] end
  table.sort(entries, before)
  while #entries > 0 and #sequence < args.offset + args.limit do
    local entry = table.remove(entries, 1)
    if entry[3] == '' then
      sequence[#sequence + 1] = entry[2]
    else
      local here = call('ZRANGE', key_waiting(queue, entry[3]), entry[4], entry[4] + 1, 'WITHSCORES')
      sequence[#sequence + 1] = here[1]
      if here[3] then
        virtual = virtual + 1
        local again = {tonumber(here[4]), '\255' .. string.sub(seq8(virtual), 2), entry[3], entry[4] + 1}
        local at = 1
        while entries[at] and before(entries[at], again) do at = at + 1 end
        table.insert(entries, at, again)
      end
    end
  end
  for _, key in ipairs(call('HKEYS', queue.turns)) do
    if #sequence >= args.offset + args.limit then break end
    if key_running(queue, key) >= key_limit(queue, key) then
      for _, seq in ipairs(call('ZRANGE', key_waiting(queue, key), 0, args.offset + args.limit - #sequence - 1)) do
        sequence[#sequence + 1] = seq
      end
    end
  end
  for _ = 1, math.min(args.offset, #sequence) do table.remove(sequence, 1) end
end
local shown = 0
for _, seq in ipairs(sequence) do
  shown = shown + 1
  if not add(seq) then break end
end
return {0, {views, shown}}
