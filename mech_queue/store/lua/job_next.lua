-- The waiting jobs of a queue as workers will get them, a bounded step of them.
--   args: queue, cursor, limit, bytes; answer, packed: {views, cursor to go on or '' at the end}
--   cursors: '' the beginning | 16 bytes, score (biased) and seq8 of the last one shown, which stay a place while jobs are
--     taken | 8 bytes, in a queue with keys: so many are shown already, or `rest`: what follows is better asked for by age
--@no-writes
--@include lib/queue
--@include lib/view
local DEEPEST = 1000                                             -- turns of keys are foretold so far
local BIAS = 4294967296                                          -- above every priority
local queue = queue_load(args.queue)
local rest = seq8(BIAS)                                          -- before every sequence, above every number of jobs

-- the place in the ring behind (score, seq8), which may have left it; members of one score are in the order of their bytes
local function place_behind(score, seq)
  local low = call('ZCOUNT', queue.ring, '-inf', '(' .. score)
  local high = low + call('ZCOUNT', queue.ring, score, score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if call('ZRANGE', queue.ring, middle, middle)[1] > seq then high = middle else low = middle + 1 end
  end
  return low
end

local views, weight = {}, 0
local function add(seq)
  local seen = view(call('ZRANGEBYSCORE', P .. 'all', int(from_seq8(seq)), int(from_seq8(seq)))[1])
  views[#views + 1] = seen
  weight = weight + #seen[3]
  return weight < args.bytes
end

local function in_order()
  local from = #args.cursor == 16 and place_behind(int(from_seq8(args.cursor) - BIAS), string.sub(args.cursor, 9)) or 0
  local found = call('ZRANGE', queue.ring, from, from + args.limit - 1, 'WITHSCORES')
  for at = 1, #found, 2 do
    local enough = not add(found[at])
    if enough or #views == args.limit then return seq8(tonumber(found[at + 1]) + BIAS) .. found[at] end
  end
  return ''
end

-- turns are played forward: one line per score, and a served key goes to the end of the line of its next job
local function with_turns(shown)
  local lines, scores, served = {}, {}, {}
  local function line_up(score, member)
    score = tonumber(score)
    if not lines[score] then
      lines[score] = {first = 1}
      table.insert(scores, score)
      table.sort(scores)
    end
    table.insert(lines[score], member)
  end
  local ring = call('ZRANGE', queue.ring, 0, shown + args.limit, 'WITHSCORES')
  for at = 1, #ring, 2 do line_up(ring[at + 1], ring[at]) end
  for place = 1, shown + args.limit do
    local line = lines[scores[1]]
    while line and not line[line.first] do
      table.remove(scores, 1)
      line = lines[scores[1]]
    end
    if not line then return place <= tonumber(call('HGET', queue.key, 'nw')) and rest or '' end   -- keys at their limit have more
    local member = line[line.first]
    line.first = line.first + 1
    local seq, key = string.sub(member, 1, 8), string.sub(member, 9)
    if key ~= '' then
      local number = served[key] or 0
      local heads = call('ZRANGE', key_waiting(queue, key), number, number + 1, 'WITHSCORES')
      served[key], seq = number + 1, heads[1]
      if heads[3] then line_up(heads[4], member) end
    end
    if place > shown and not add(seq) then return seq8(place) end
  end
  return seq8(shown + args.limit)
end

local cursor
if call('EXISTS', queue.turns) == 0 then
  cursor = in_order()
elseif #args.cursor == 16 or (args.cursor ~= '' and from_seq8(args.cursor) >= DEEPEST) then
  cursor = rest                                                  -- keys came meanwhile, or it is deep enough
else
  cursor = with_turns(args.cursor == '' and 0 or from_seq8(args.cursor))
end
return {0, cmsgpack.pack({views, cursor})}
