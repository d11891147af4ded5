-- First in whatever changes something: the clock, the application, counters.
--   now ms, never lower than the application has seen
--   <P>app hash: clock (last sequence), max active held, subscribed, n<letter> per state, settings
--   <S>next zset: application -> its earliest due time
--@include lib/envelope
local app, app_counts = {}, {}
do
  local v = call('HMGET', P .. 'app', 'clock', 'max', 'held', 'subscribed', 'max_waiting', 'active', 'nw', 'nd', 'na', 'nc', 'nf', 'nx')
  app.clock = tonumber(v[1] or 0)
  app.max = tonumber(v[2] or nil) or HUGE
  app.held = tonumber(v[3] or 0)
  app.subscribed = tonumber(v[4] or 0)
  app.max_waiting = tonumber(v[5] or nil) or HUGE
  app_counts = {active = v[6] or 0, nw = v[7] or 0, nd = v[8] or 0, na = v[9] or 0, nc = v[10] or 0, nf = v[11] or 0, nx = v[12] or 0}
  app.active = tonumber(app_counts.active)
  app.backlog = app_counts.nw + app_counts.nd
end
local now = tonumber(ARGV[3])
if now == 0 then
  local t = call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end
now = math.max(now, math.floor(app.clock / 1024))

-- hybrid logical clock: ms * 1024 + counter. Age, cursor and time filter in one; below 2^53 until the year 2248
local function tick()
  app.clock = math.max(app.clock + 1, now * 1024)
  return app.clock
end

-- counters are collected and written once, so that a batch of 100 jobs costs one HINCRBY per counter
local deltas = {}
local function count(key, field, by)
  local fields = deltas[key]
  if not fields then fields = {}; deltas[key] = fields end
  fields[field] = (fields[field] or 0) + by
end

-- something of the application is due then: the scheduler's list hears of the earliest, once
local soonest
local function due_soon(at) if not soonest or at < soonest then soonest = at end end
local function due_at(key, score, member)
  call('ZADD', P .. key, int(score), member)
  due_soon(score)
end

local pushed = {}
local function added(set, fields, counts)
  for field, by in pairs(fields) do
    set[#set + 1] = field
    set[#set + 1] = int((counts[field] or 0) + by)
  end
  return set
end

local function add_counters(key, fields)
  local names, counts = {}, {}
  for field in pairs(fields) do names[#names + 1] = field end
  if #names < 3 then
    for field, by in pairs(fields) do
      if by ~= 0 then call('HINCRBY', key, field, int(by)) end
    end
    return
  end
  for i, value in ipairs(call('HMGET', key, unpack(names))) do counts[names[i]] = value or 0 end
  call('HSET', key, unpack(added({}, fields, counts)))
end

-- last step of every script that changed something: the clock, the counters, when to look again
local function commit(result)
  if soonest then call('ZADD', S .. 'next', 'LT', int(soonest), APP_ID) end
  local own = deltas[P .. 'app'] or {}
  deltas[P .. 'app'] = nil
  call('HSET', P .. 'app', unpack(added({'clock', int(app.clock)}, own, app_counts)))
  for key, fields in pairs(deltas) do add_counters(key, fields) end
  return {#pushed > 0 and pushed or 0, result}
end
