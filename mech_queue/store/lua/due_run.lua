-- The scheduler's step for one application: what is due, at most args.limit entries; safe in any number of replicas.
--   args: limit; answer: {entries handled (limit: there may be more), schedule ids that are due, steps for Python: {kind, name}}
--   events: stalled, failed (STALLED, TIMEOUT, EXPIRED, PARENT_FAILED), retrying
--@allow-oom
--@include lib/job
--@include lib/wipe
--@include lib/delivery
local handled, more, steps = 0, false, {}

local function with_job(id, act)
  local job = job_load(id)
  if not job then return end
  act(job, queue_load(job.q))
  job:save()
end

local function become_waiting(job, queue)
  if job.s == 'd' and not job.pc then wait_in_ring(job, queue, 'promote') end
end
local function time_out(job, queue)
  local limit = job:option('timeout')
  if job.s ~= 'a' or not limit then return end
  local over = job:number('ts') + limit
  if over > now then return due_at('due', over, 't' .. job.id) end
  fail(job, queue, {error = '"the attempt ran longer than its timeout of ' .. int(limit) .. ' ms"', code = 'TIMEOUT'})
end
local function expire(job, queue)
  if (job.s ~= 'w' and job.s ~= 'd') or job:number('a') > 0 then return end
  leave_waiting(job, queue)
  late(job, 'e', '"nobody started the job in time"')
  late(job, 'c', 'EXPIRED')
  finish(job, queue, 'expire', 'f', 'failed', '"nobody started the job in time"')
end
-- children of an ended (or deleted) parent, in steps; one that was retried meanwhile is awaited again
local function tell_children(id)
  local parent = job_load(id)
  if parent and not parent.te then return end
  local well = parent and parent.s == 'c'
  local key = P .. 'children:' .. id
  for _, child in ipairs(call('SPOP', key, PART)) do
    with_job(child, function(job, queue)
      if job.s ~= 'd' or not job.pc then return end
      if not well and job:option('orphan') ~= 'run' then
        job:set('pc', false)
        call('ZREM', P .. 'due', 'x' .. job.id)
        late(job, 'e', '"a job it depends on has failed"')
        late(job, 'c', 'PARENT_FAILED')
        finish(job, queue, 'orphan', 'f', 'failed', '"a job it depends on has failed"')
        return
      end
      local left = job:number('pc') - 1
      job:set('pc', left > 0 and left or false)
      if left > 0 then return end
      if job:number('tr') > now then due_at('due', job:number('tr'), 'd' .. job.id) else wait_in_ring(job, queue, 'promote') end
    end)
  end
  if call('EXISTS', key) == 1 then due_at('due', now, 'c' .. id) end
end
-- a queue's limit per key was changed: regroup the keys that run, in steps
local function walk_keys(name)
  local queue = queue_load(name)
  local found = call('HSCAN', queue.running, call('HGET', queue.key, 'walk') or '0', 'COUNT', PART)
  for i = 1, #found[2], 2 do regroup(queue, found[2][i]) end
  if found[1] == '0' then call('HDEL', queue.key, 'walk') return end
  call('HSET', queue.key, 'walk', found[1])
  due_at('due', now, 'k' .. name)
end
-- more ended jobs of a state than the queue keeps: the oldest go, in steps
local function trim(what)
  local state, queue = string.sub(what, 1, 1), queue_load(string.sub(what, 2))
  local name = 'keep_' .. STATE_NAMES[state] .. '_n'
  local most = tonumber(call('HGET', queue.key, name) or call('HGET', APP, name) or nil)
  local excess = most and tonumber(call('HGET', queue.key, 'n' .. state) or 0) - most or 0
  if excess <= 0 then return end
  local prefix, gone = 's' .. state .. queue.name .. '\0', 0
  for _, entry in ipairs(call('ZRANGEBYLEX', P .. 'ix', '[' .. prefix, '(' .. prefix .. '\255', 'LIMIT', 0, math.min(excess, PART))) do
    local seq = int(from_seq8(string.sub(entry, #prefix + 1)))
    local job = job_load(call('ZRANGEBYSCORE', P .. 'all', seq, seq)[1])
    if job:number('u') == 0 and conflicts(job) == 0 then
      remove(job)
      gone = gone + 1
    else
      due_at('end', now, job.id)
    end
  end
  if excess > PART and gone > 0 then due_at('due', now, 'n' .. what) end
end
-- purge: what waits goes without a trace, in steps
local function purge(name)
  local queue, left = queue_load(name), PART
  for _, state in ipairs({'w', 'd'}) do
    local prefix = 's' .. state .. name .. '\0'
    for _, entry in ipairs(left > 0 and call('ZRANGEBYLEX', P .. 'ix', '[' .. prefix, '(' .. prefix .. '\255', 'LIMIT', 0, left) or {}) do
      local seq = int(from_seq8(string.sub(entry, #prefix + 1)))
      local id = call('ZRANGEBYSCORE', P .. 'all', seq, seq)[1]
      local job = id and job_load(id)
      left = left - 1
      if job then
        leave_waiting(job, queue)
        if call('EXISTS', P .. 'children:' .. id) == 1 then due_at('due', now, 'c' .. id) end
        if job:number('u') > 0 then
          finish(job, queue, 'cancel', 'x')
          job:save()
          due_at('end', now, id)
        else
          remove(job)
        end
      end
    end
  end
  if left == 0 then due_at('due', now, 'p' .. name) end
end

local function let_go(name)                          -- a held slot was not taken in time
  local queue = queue_load(name)
  if drop_held(queue) then queue.lap = true call('HSET', queue.key, 'lap', '1') end
end

local ACTS = {
  d = function(id) with_job(id, become_waiting) end,
  t = function(id) with_job(id, time_out) end,
  x = function(id) with_job(id, expire) end,
  c = tell_children,
  r = function(name) queue_load(name) end,                       -- a rate slot is free: the refill below
  g = let_go,
  s = function(name) repair(queue_load(name)) end,
  k = walk_keys,
  n = trim,
  p = purge,
  m = repair_matching,                                           -- application `~`, as are the next two
  b = function(key) endpoint_probe(queue_load('webhooks'), key) end,
  e = function(what) deliveries_end(what, PART) end,
  W = wipe,                                                      -- the application was deleted
  V = wipe_deliveries,                                           -- application `~`: an application's, likewise
}
local STEPWISE = {c = true, e = true, k = true, n = true, p = true, W = true, V = true}
for _, member in ipairs(call('ZRANGEBYSCORE', P .. 'due', '-inf', NOW, 'LIMIT', 0, args.limit)) do
  call('ZREM', P .. 'due', member)
  handled = handled + 1
  local kind = string.sub(member, 1, 1)
  if ACTS[kind] then
    ACTS[kind](string.sub(member, 2))
  else                                                           -- Python's: again in 5 s, should its process die
    due_at('due', now + 5000, member)
    steps[#steps + 1] = {kind, string.sub(member, 2)}
  end
  if STEPWISE[kind] then more = true break end                   -- the others in the next run
end
for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'act', '-inf', NOW, 'LIMIT', 0, args.limit - handled)) do
  handled = handled + 1
  local job = job_load(id)
  if job and job.s == 'a' then
    if APP_ID == '~' then delivery_interrupted(job, queue_load(job.q)) else stall(job, queue_load(job.q)) end
    job:save()
  else
    call('ZREM', P .. 'act', id)
  end
end
local over = call('ZRANGEBYSCORE', P .. 'end', '-inf', NOW, 'LIMIT', 0, math.max(0, math.min(PART, args.limit - handled)))
more = more or #over == PART
for _, id in ipairs(over) do
  handled = handled + 1
  local job = job_load(id)
  local _, till = nil, nil
  if job then _, till = conflicts(job) end
  if not job then
    call('ZREM', P .. 'end', id)
  elseif till then
    due_at('end', till, id)
  elseif job:number('u') > 0 or call('EXISTS', P .. 'children:' .. id) == 1 then
    due_at('end', now + 1000, id)
  else
    remove(job)
  end
end
if handled > 0 then refill_touched() end
if more then handled = args.limit end
if app.wiped then return wiped({handled, {}, steps}) end
local schedules = call('ZRANGEBYSCORE', P .. 'schedules', '-inf', NOW, 'LIMIT', 0, 50)

-- the event log keeps a day: when its oldest entry must go, which is bounded work, since the log is (lib/event)
local DAY = 86400000
local function log_ends()
  local oldest = call('XRANGE', P .. 'ev', '-', '+', 'COUNT', 1)[1]
  return oldest and tonumber(string.match(oldest[1], '^%d+')) + DAY + 60000      -- a minute's entries in one step
end
local earliest = log_ends()
if earliest and earliest <= now then
  call('XTRIM', P .. 'ev', 'MINID', int(now - DAY))
  call('ZREMRANGEBYSCORE', P .. 'workers', '-inf', int(now - DAY))
  earliest = log_ends()
  if not earliest then call('UNLINK', P .. 'ev') end
end
for _, name in ipairs({'due', 'act', 'end', 'schedules'}) do
  local head = call('ZRANGE', P .. name, 0, 0, 'WITHSCORES')
  if head[2] and (not earliest or tonumber(head[2]) < earliest) then earliest = tonumber(head[2]) end
end
if earliest then call('ZADD', S .. 'next', int(earliest), APP_ID) else call('ZREM', S .. 'next', APP_ID) end
soonest = nil                                       -- that says it
if app.clock == 0 and handled == 0 then return {0, {0, schedules, steps}} end     -- another replica may have wiped it
return commit({handled, schedules, steps})
