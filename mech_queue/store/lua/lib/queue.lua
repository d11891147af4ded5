-- A queue: order, limits and wake-ups. Rules and their proof: docs/engine.md.
--   <P>queues set of names      <P>q:<queue> hash: settings, n<letter> counters, marks
--   <P>r:<queue> ring: score -priority, member seq8 (a job without key) or turn8 .. key (a key with work and room)
--   <P>w:<queue>:<key> waiting jobs of a key (deliveries: of an endpoint; of an application its endpoints with room)
--   <P>kt:<queue> key -> turn8   <P>kr:<queue> key -> running
--   <P>kl:<queue> key -> limit of its own (deliveries: the circuit breaker)   <P>rl:<queue> starts 'ms:count'
--   <P>ab queues blocked by the application limit, in turn order   <P>res slots held: queue -> until
--   <P>due members here: r<queue> rate slot frees, g<queue> held slot lapses, s<queue> repair
--   Another broker than the store carries the wake-ups (meta `wakeups` = count): <P>q:<queue> also has outstanding, those
--     sent and not arrived, and generation, the changes of that number; the caller publishes `pushed`
--@include lib/base

local function queue_load(name)
  local queue = queues[name]
  if queue then return queue end
  local key = P .. 'q:' .. name
  local v = call('HMGET', key, 'paused', 'concurrency', 'rate_max', 'rate_per', 'per_key', 'na', 'rate_used', 'lap',
    'repair', 'idle', 'seen', 'lease', 'started_lease', 'attempts', 'draining', 'per_application', 'outstanding', 'known', 'sampled',
    'nw', 'nd', 'nc', 'nf', 'nx')
  queue = {name = name, key = key, paused = v[1] == '1', concurrency = tonumber(v[2] or nil) or HUGE,
    rate_max = tonumber(v[3] or nil), rate_per = tonumber(v[4] or nil), per_key = tonumber(v[5] or nil) or HUGE,
    active = tonumber(v[6] or 0), rate_used = tonumber(v[7] or 0), lap = v[8] == '1', repair = v[9] == '1',
    idle = v[10], seen = tonumber(v[11] or 0), lease = tonumber(v[12] or nil), started_lease = tonumber(v[13] or nil),
    attempts = tonumber(v[14] or nil) or default_attempts, draining = v[15] == '1', per_application = tonumber(v[16] or nil),
    outstanding = tonumber(v[17] or 0), known = v[18] == '1',
    sampled = tonumber(v[19] or 0), counts = {w = v[20], d = v[21], a = v[6], c = v[22], f = v[23], x = v[24]},
    tally = {}, measures = {},                          -- changes of this script: jobs per state, and in <P>m:<queue>
    ring = P .. 'r:' .. name, turns = P .. 'kt:' .. name, running = P .. 'kr:' .. name}
  queues[name] = queue
  return queue
end

local function queue_create(queue)
  if queue.known then return end
  queue.known = true
  call('SADD', P .. 'queues', queue.name)
  call('HSET', queue.key, 'known', '1', 'created', NOW)
end

local function key_waiting(queue, key) return P .. 'w:' .. queue.name .. ':' .. key end
local function key_running(queue, key) return tonumber(call('HGET', queue.running, key) or 0) end
-- deliveries: an endpoint ("<application> <origin>") is below its application, which is a key, too
local function key_above(key) return APP_ID == '~' and string.match(key, '^(%S+) ') or nil end
local function stands_for_keys(key) return APP_ID == '~' and not key_above(key) end
local function key_limit(queue, key)
  if APP_ID ~= '~' then return queue.per_key end
  if stands_for_keys(key) then return queue.per_application end
  return tonumber(call('HGET', P .. 'kl:' .. queue.name, key) or nil) or queue.per_key
end

-- membership of a key in its ring, derived from its facts; called after every change of its jobs or its running
local function regroup_one(queue, key, above)
  local turn = call('HGET', queue.turns, key)
  if not turn then return end
  local ring = above and key_waiting(queue, above) or queue.ring
  local head = call('ZRANGE', key_waiting(queue, key), 0, 0, 'WITHSCORES')
  if #head == 0 then
    call('ZREM', ring, turn .. key)
    call('HDEL', queue.turns, key)
  elseif key_running(queue, key) >= key_limit(queue, key) then
    call('ZREM', ring, turn .. key)
  else
    call('ZADD', ring, head[2], turn .. key)
    if above then call('HSETNX', queue.turns, above, seq8(tick())) end
  end
end
local function regroup(queue, key)
  local above = key_above(key)
  regroup_one(queue, key, above)
  if above then regroup_one(queue, above) end
end

local function enqueue(queue, key, priority, seq)
  if not key then call('ZADD', queue.ring, int(-priority), seq) return end
  call('ZADD', key_waiting(queue, key), int(-priority), seq)
  call('HSETNX', queue.turns, key, seq8(tick()))
  regroup(queue, key)
end

local function dequeue(queue, key, seq)
  if not key then call('ZREM', queue.ring, seq) return end
  call('ZREM', key_waiting(queue, key), seq)
  regroup(queue, key)
end

local function key_counted(queue, key, by)
  if call('HINCRBY', queue.running, key, by) <= 0 then call('HDEL', queue.running, key) end
  if key_above(key) then key_counted(queue, key_above(key), by) end
end
local function key_started(queue, key) key_counted(queue, key, 1) end
local function key_left(queue, key)
  key_counted(queue, key, -1)
  regroup(queue, key)
end

-- sliding log of starts: the only form that is exact in any window of the period
local function rate_free(queue)
  if not queue.rate_max then return HUGE end
  local log, was = P .. 'rl:' .. queue.name, queue.rate_used
  while true do
    local head = call('LINDEX', log, 0)
    if not head then break end
    local at, n = string.match(head, '(%d+):(%d+)')
    if tonumber(at) + queue.rate_per > now then queue.rate_head = tonumber(at) break end
    call('LPOP', log)
    queue.rate_used = queue.rate_used - n
  end
  if queue.rate_used ~= was then call('HSET', queue.key, 'rate_used', int(queue.rate_used)) end
  return queue.rate_max - queue.rate_used
end

-- a long log is kept in steps of a thousandth of the period, rounded up: so it stays short, and no window exceeds the max
local function rate_take(queue, n)
  if not queue.rate_max then return end
  local log, at = P .. 'rl:' .. queue.name, now
  if math.max(queue.rate_max, queue.rate_used) > 1000 then
    local grain = math.ceil(queue.rate_per / 1000)
    at = math.ceil(now / grain) * grain
  end
  local last, before = string.match(call('LINDEX', log, -1) or '', '(%d+):(%d+)')
  if last and tonumber(last) >= at then
    call('LSET', log, -1, last .. ':' .. int(before + n))
  else
    call('RPUSH', log, int(at) .. ':' .. int(n))
  end
  queue.rate_used = queue.rate_used + n
  call('HSET', queue.key, 'rate_used', int(queue.rate_used))
end

-- slots of the application that this queue may take: those free, less those held for other queues
local function application_free(queue)
  if app.max == HUGE then return HUGE end
  local own = app.held > 0 and call('ZSCORE', P .. 'res', queue.name) and 1 or 0
  return app.max - app.active - app.held + own
end

-- how many jobs of a ring (nil: the queue's) could start, up to `most`
local function startable(queue, most, ring)
  ring = ring or queue.ring
  local n = call('ZCARD', ring)
  if n == 0 or n >= most then return math.min(n, most) end
  local sum = 0
  for _, member in ipairs(call('ZRANGE', ring, 0, most)) do
    if #member == 8 then
      sum = sum + 1
    else
      local key = string.sub(member, 9)
      local room, waiting = key_limit(queue, key) - key_running(queue, key), key_waiting(queue, key)
      local ready = stands_for_keys(key) and startable(queue, math.min(most, room), waiting) or call('ZCARD', waiting)
      sum = sum + math.max(0, math.min(ready, room))
    end
    if sum >= most then return most end
  end
  return sum
end

local function broker_list(name)
  if APP_ID == '~' then return name .. '.' .. SHARD end
  return 'jobs.' .. APP_ID .. '.' .. name
end

-- one LPUSH of `need` wake-ups; each needs an id of its own, since kombu keeps unacknowledged ones by it
local function push(list, need, fill)
  local last = call('HINCRBY', S .. 'meta', 'wakeup', need)
  local messages = {}
  local message = string.gsub(WAKE_UP, '@(%a+)@', fill)
  for i = 1, need do messages[i] = string.gsub(message, '@id@', 'mqw-' .. SHARD .. '-' .. int(last - i + 1)) end
  call('LPUSH', list, unpack(messages))
end

-- another broker: count, and let the caller publish
local function push_elsewhere(key, list, need)
  count(key, 'outstanding', need)
  count(key, 'generation', 1)
  pushed[#pushed + 1] = {list, need}
end
-- … and let it look how many wait there, after whatever this script pushes; its answer: wakeups_counted.lua
local asked = {}
local function look_elsewhere(key, list) asked[list] = key end
local function ask_elsewhere()
  for list, key in pairs(asked) do
    local moved = deltas[key] and deltas[key].generation or 0
    pushed[#pushed + 1] = {list, 0, tonumber(call('HGET', key, 'generation') or 0) + moved}
  end
end

local function wake(queue, need)
  local list = broker_list(queue.name)
  if meta[6] == 'count' then
    queue.outstanding = queue.outstanding + need
    push_elsewhere(queue.key, list, need)
  elseif APP_ID == '~' then
    push(list, need, {task = 'mech_queue.deliver', args = int(tonumber(SHARD)), mq = 'null', queue = list})
  else
    push(list, need, {task = 'mech_queue.wake', args = '', queue = list,
      mq = '[' .. WAKE_FORMAT .. ',"' .. APP_ID .. '","' .. queue.name .. '"]'})
  end
end
local function waiting_wakeups(queue)
  if meta[6] == 'count' then return queue.outstanding end
  return call('LLEN', broker_list(queue.name))
end

-- last step for a queue of every script that makes work possible or takes it. `flood`: see repair
local function refill(queue, flood)
  if queue.paused or startable(queue, 1) == 0 then return end
  if not queue.repair then
    queue.repair = true
    call('HSET', queue.key, 'repair', '1')
    due_at('due', now + 500, 's' .. queue.name)
  end
  local free = queue.concurrency - queue.active
  if free <= 0 then return end                      -- an end in this queue refills it
  local rate = rate_free(queue)
  if rate <= 0 then due_at('due', queue.rate_head + queue.rate_per, 'r' .. queue.name) return end
  local slots = application_free(queue)
  if slots <= 0 then                                -- waits for a slot of the application, in turn
    call('ZADD', P .. 'ab', 'NX', int(tick()), queue.name)
    return
  end
  -- HTTP pollers hear that work can start; where only they serve a queue, its list just stands full
  call_out('q' .. queue.name)
  local most, waiting = math.min(WINDOW, free, rate, slots), waiting_wakeups(queue)
  local need = flood and WINDOW or most > waiting and startable(queue, most) - waiting or 0
  if need > 0 then wake(queue, need) end
end

local function drop_held(queue)
  if app.held == 0 or call('ZREM', P .. 'res', queue.name) == 0 then return false end
  app.held = app.held - 1
  call('HSET', APP, 'held', int(app.held))
  call('ZREM', P .. 'due', 'g' .. queue.name)
  return true
end

-- a slot of the application came free: hold it a second for the queue that waits longest, else greedy pollers starve it
local function wake_application()
  if app.max == HUGE and call('EXISTS', P .. 'ab') == 0 then return end
  for _ = 1, 8 do
    if app.max - app.active - app.held <= 0 then return end
    local head = call('ZPOPMIN', P .. 'ab')
    if #head == 0 then return end
    local queue = queue_load(head[1])
    local can = not queue.paused and queue.active < queue.concurrency and rate_free(queue) > 0 and startable(queue, 1) > 0
    if can and not queue.lap and app.max ~= HUGE and not call('ZSCORE', P .. 'res', queue.name) then
      call('ZADD', P .. 'res', int(now + 1000), queue.name)
      app.held = app.held + 1
      call('HSET', APP, 'held', int(app.held))
      due_at('due', now + 1000, 'g' .. queue.name)
    end
    refill(queue)                                   -- also files the time at which the rate frees a slot
  end
end

-- a startable head seen twice with an empty list: a busy worker's prefetch hoards the wake-ups, so push a whole window;
-- full buffers leave the rest in the list for others. `waiting`: wake-ups in the broker
local function refill_hoarded(queue, head, waiting)
  if queue.paused or waiting > 0 then
    if queue.idle then call('HDEL', queue.key, 'idle') queue.idle = false end
    return refill(queue)
  end
  local seen, at = string.match(queue.idle or '', '^(.*):(%d+)$')
  if seen == head and now - tonumber(at) >= 300 then return refill(queue, true) end
  queue.idle = head .. ':' .. NOW
  call('HSET', queue.key, 'idle', queue.idle)
  refill(queue)
end

-- every 500 ms while a queue has work
local function repair(queue)
  local head = call('ZRANGE', queue.ring, 0, 0)[1]
  if not head then
    queue.repair = false
    call('HDEL', queue.key, 'repair', 'idle')
    return
  end
  due_at('due', now + 500, 's' .. queue.name)
  local list = broker_list(queue.name)
  if meta[6] == 'count' then return look_elsewhere(queue.key, list) end
  refill_hoarded(queue, head, call('LLEN', list))
end

local function refill_queues()
  for _, queue in pairs(queues) do refill(queue) end
  ask_elsewhere()
end

-- before the own refills: the queue that waits longest for the application comes first
local function refill_touched()
  wake_application()
  refill_queues()
end
