-- First in whatever changes something: the clock, the application, counters.
--   now ms, never lower than the application has seen
--   <P>app hash: clock (last sequence), max held, subscribed, n<letter> jobs per state, settings
--   <S>next zset: application -> its earliest due time
--@include lib/envelope
local APP, app = P .. 'app', nil
do
  local v = call('HMGET', APP, 'clock', 'max', 'held', 'subscribed', 'max_waiting', 'nw', 'nd', 'na', 'nc', 'nf', 'nx')
  app = {clock = tonumber(v[1] or 0), max = tonumber(v[2] or nil) or HUGE, held = tonumber(v[3] or 0),
    subscribed = tonumber(v[4] or 0), max_waiting = tonumber(v[5] or nil) or HUGE, active = tonumber(v[8] or 0),
    backlog = (v[6] or 0) + (v[7] or 0),
    counts = {w = v[6], d = v[7], a = v[8], c = v[9], f = v[10], x = v[11]}}
end
local now = tonumber(ARGV[3])
if now == 0 then
  local t = call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end
now = math.max(now, math.floor(app.clock / 1024))
local NOW = int(now)                                    -- as fields have it

-- hybrid logical clock: ms * 1024 + counter. Age, cursor and time filter in one; below 2^53 until the year 2248
local function tick()
  app.clock = math.max(app.clock + 1, now * 1024)
  return app.clock
end

-- something of the application is due then: the scheduler's list hears of the earliest, once
local soonest
local function due_soon(at) if not soonest or at < soonest then soonest = at end end
local function due_at(key, score, member)
  call('ZADD', P .. key, int(score), member)
  due_soon(score)
end

-- counters are collected and written once, so that a batch of 100 jobs costs one write of each
local queues = {}                                       -- by name; each with `tally`, see lib/queue
local deltas = {}                                       -- any other hash -> field -> change
local function count(key, field, by)
  local fields = deltas[key]
  if not fields then fields = {}; deltas[key] = fields end
  fields[field] = (fields[field] or 0) + by
end

-- whoever waits at the API hears at once: 'q' .. queue, where work can start, 'j' .. id of a job that has ended
local called = {}
local function call_out(what) called[#called + 1] = what end
local function publish_called()
  if #called > 0 then call('PUBLISH', 'mq:wake:' .. SHARD, cmsgpack.pack({APP_ID, called})) end
end

local pushed = {}
local many = {}                                         -- arguments of one command: a list that is made only once

local function add_counters(key, changes)
  for field, by in pairs(changes) do
    if by ~= 0 then call('HINCRBY', key, field, int(by)) end
  end
end

-- jobs per state: `changes` in a hash that had `counts`; `n` arguments for it are in `many` already
local function write_tally(key, changes, counts, n)
  for state, by in pairs(changes) do
    if by ~= 0 then
      many[n + 1], many[n + 2] = 'n' .. state, int((counts[state] or 0) + by)
      n = n + 2
    end
  end
  if n > 0 then call('HSET', key, unpack(many, 1, n)) end
end

-- last step of every script that changed something: the clock, the counters, when to look again
local function commit(result)
  publish_called()
  if soonest then call('ZADD', S .. 'next', 'LT', int(soonest), APP_ID) end
  local all = {}
  for _, queue in pairs(queues) do
    write_tally(queue.key, queue.tally, queue.counts, 0)
    add_counters(P .. 'm:' .. queue.name, queue.measures)
    if APP_ID ~= '~' then                               -- deliveries are no jobs to anybody outside
      for state, by in pairs(queue.tally) do all[state] = (all[state] or 0) + by end
    end
  end
  many[1], many[2] = 'clock', int(app.clock)
  write_tally(APP, all, app.counts, 2)
  add_counters(S .. 'totals', all)
  for key, changes in pairs(deltas) do add_counters(key, changes) end
  return {#pushed > 0 and pushed or 0, result}
end
