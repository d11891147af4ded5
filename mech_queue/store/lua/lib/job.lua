-- A job: its record, its index entries, its transitions.
--   <P>d:<id> string, immutable: msgpack {1, data, metadata, webhooks, parents}, JSON texts
--   <P>j:<id> hash, small: q queue, s state, n seq8, p priority, k concurrency key, t task, o options (msgpack),
--     i index hashes (6 bytes each), hk webhook mask, e events, a starts, f failures, b stalls, un unknown-task returns,
--     l lease token, h 1 = token required, m lease ms, w worker, g refused tokenless writes 'count:until',
--     ts started, th heartbeat, te ended, tr run at, u unmatched events, v version, pc parents awaited, r short result,
--     ch 1 = others wait for it
--   <P>x:<id> hash, made late: r result (that of the record, where it has one, is newer), e error, c error code,
--     p progress, h history, m metadata, w webhooks, d data, ld log lines dropped
--   <P>all zset seq -> id   <P>ix search entries: s<state><queue>\0, m<hash>, t<task>\0, each .. seq8
--   <P>act lease end -> id  <P>end removal time -> id   <P>due members here: d<id> delayed, t<id> timeout, x<id> expiry
--   <P>m:<queue> hash: counters of metrics   <S>totals hash: jobs per state letter, all applications of the shard
--@include lib/queue
--@include lib/event
local STATE_NAMES = {w = 'waiting', d = 'delayed', a = 'active', c = 'completed', f = 'failed', x = 'cancelled'}
local MOST_RETURNS = 5                              -- by workers that do not know the job's task; then it fails
local SHORT_RESULT = 64                              -- bytes: as long as values of a small hash may be
local BUCKETS = {5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 1800000, 3600000}

local Job = {}
Job.__index = Job
function Job.set(job, field, value)
  value = value or false
  if (job[field] or false) == value then return end
  job[field] = value
  job.changed[field] = true
end
function Job.number(job, field) return tonumber(job[field] or 0) end
function Job.option(job, name)
  if not job.o then return nil end
  if not job.options then job.options = cmsgpack.unpack(job.o) end
  return job.options[name]
end
function Job.save(job)
  local n, clear = 0, nil
  for field in pairs(job.changed) do
    local value = job[field]
    if value == false then
      clear = clear or {}
      clear[#clear + 1] = field
    else
      many[n + 1], many[n + 2] = field, type(value) == 'number' and int(value) or value
      n = n + 2
    end
  end
  if n > 0 then call('HSET', P .. 'j:' .. job.id, unpack(many, 1, n)) end
  if clear then call('HDEL', P .. 'j:' .. job.id, unpack(clear)) end
  job.changed = {}
end

local function job_new(id)
  return setmetatable({id = id, changed = {}, q = false, s = false, n = false, k = false, t = false, o = false, i = false,
    e = false, a = false, l = false, h = false, m = false, w = false, ts = false, th = false, te = false}, Job)
end
local function job_load(id)
  local found = call('HGETALL', P .. 'j:' .. id)
  if not found[1] then return nil end
  local job = job_new(id)                           -- with room for its fields: a table that grows is made again and again
  for at = 1, #found, 2 do job[found[at]] = found[at + 1] end
  return job
end

local function late(job, field, value)
  if value then call('HSET', P .. 'x:' .. job.id, field, value) else call('HDEL', P .. 'x:' .. job.id, field) end
end

-- a short one, as of most tasks, costs no hash of its own
local function set_result(job, result)
  local short = #result <= SHORT_RESULT
  job:set('r', short and result)
  if not short then late(job, 'r', result) end
end

-- history: what cannot be read from the record any more, oldest dropped beyond 50 lines
local function remember_attempt(job, line)
  local before = call('HGET', P .. 'x:' .. job.id, 'h') or ''
  if #before > 12000 then
    local lines = {cmsgpack.unpack(before)}
    local kept = {}
    for i = math.max(1, #lines - 24), #lines do kept[#kept + 1] = cmsgpack.pack(lines[i]) end
    before = table.concat(kept)
  end
  late(job, 'h', before .. cmsgpack.pack(line))
end
local function attempt_over(job, outcome, err)
  remember_attempt(job, {'attempt', now, job:number('a'), outcome, job:number('ts'), job.w or '',
    err and #err <= 1024 and err or ''})
end

local function tally(queue, state, by) queue.tally[state] = (queue.tally[state] or 0) + by end
local function tally_active(queue, by)
  queue.active = queue.active + by
  app.active = app.active + by
end
-- for the metrics of the queue; deliveries have others (lib/delivery)
local function measure(queue, name, by)
  if APP_ID ~= '~' then queue.measures[name] = (queue.measures[name] or 0) + by end
end

-- the only place where a state changes
local function transition(job, queue, action, to)
  local allowed = TRANSITIONS[action][job.s]
  if not allowed or not string.find(allowed, to, 1, true) then
    error('no transition ' .. action .. ': ' .. job.s .. ' -> ' .. to)
  end
  if to == job.s then return end
  call('ZREM', P .. 'ix', 's' .. job.s .. job.q .. '\0' .. job.n)
  call('ZADD', P .. 'ix', 0, 's' .. to .. job.q .. '\0' .. job.n)
  tally(queue, job.s, -1)
  tally(queue, to, 1)
  job:set('s', to)
end

local function observe(queue, name, ms)
  measure(queue, name .. ':sum', math.max(0, ms))
  for _, bound in ipairs(BUCKETS) do
    if ms <= bound then return measure(queue, name .. ':' .. bound, 1) end
  end
  measure(queue, name .. ':inf', 1)
end

-- what the counters were before a change, at most every 10 s: 'ms,submitted,completed,failed;', the last eight of them.
-- model/queue.py reads rates from it
local function sample(queue)
  if now - queue.sampled < 10000 or APP_ID == '~' then return end
  queue.sampled = now
  local n = call('HMGET', P .. 'm:' .. queue.name, 'submitted', 'completed', 'failed')
  local kept = call('HGET', queue.key, 'samples') or ''
  local _, lines = string.gsub(kept, ';', '')
  if lines >= 8 then kept = string.sub(kept, string.find(kept, ';', 1, true) + 1) end
  kept = kept .. NOW .. ',' .. (n[1] or 0) .. ',' .. (n[2] or 0) .. ',' .. (n[3] or 0) .. ';'
  call('HSET', queue.key, 'sampled', NOW, 'samples', kept)
end

local function lease(job, ms)
  call('ZADD', P .. 'act', int(now + ms), job.id)
  due_soon(now + ms)
  job:set('m', ms)
  job:set('th', NOW)
  return now + ms
end

-- the job has left the ring already; the caller counts the rate
local function start(job, queue, token, lease_ms, required, worker)
  transition(job, queue, 'start', 'a')
  job:set('a', job:number('a') + 1)
  job:set('l', token)
  job:set('h', required and '1' or false)
  job:set('w', worker and worker ~= '' and worker or false)
  job:set('ts', NOW)
  if job.tr then job:set('tr', false) end
  tally_active(queue, 1)
  if job.k then key_started(queue, job.k) end
  if job:option('timeout') then due_at('due', now + job:option('timeout'), 't' .. job.id) end
  if job:option('expires') then call('ZREM', P .. 'due', 'x' .. job.id) end
  observe(queue, 'wait', now - math.floor(from_seq8(job.n) / 1024))
  event(job, 'started')
  return lease(job, lease_ms)
end

local function leave_active(job, queue)
  call('ZREM', P .. 'act', job.id)
  if job:option('timeout') then call('ZREM', P .. 'due', 't' .. job.id) end
  tally_active(queue, -1)
  if job.k then key_left(queue, job.k) end
end

local function leave_waiting(job, queue)
  if job.s == 'w' then dequeue(queue, job.k, job.n) else call('ZREM', P .. 'due', 'd' .. job.id) end
  if job:option('expires') then call('ZREM', P .. 'due', 'x' .. job.id) end
end

local function wait_in_ring(job, queue, action)
  if job.s ~= 'w' then transition(job, queue, action, 'w') end
  if job.tr then job:set('tr', false) end
  enqueue(queue, job.k, job:number('p'), job.n)
end
local function wait_until(job, queue, action, at)
  transition(job, queue, action, 'd')
  job:set('tr', at)
  due_at('due', at, 'd' .. job.id)
end

-- how long an ended job stays (its own option, its queue's, its application's, the service's), and how many of its
-- state the queue keeps (the oldest beyond that go in steps of due_run)
local function retire(job, queue, to)
  local name, key = 'keep_' .. STATE_NAMES[to], 'kept_' .. to
  queue[key] = queue[key] or {call('HMGET', queue.key, name .. '_s', name .. '_n'), call('HMGET', APP, name .. '_s', name .. '_n')}
  local own, common = unpack(queue[key])
  local seconds = job:option('retention') or own[1] or common[1] or (to == 'c' and meta[3]) or (to == 'f' and meta[4])
    or (to == 'x' and meta[5]) or (to == 'f' and 86400 or 3600)
  due_at('end', now + tonumber(seconds) * 1000, job.id)
  local most = tonumber(own[2] or common[2] or nil)
  if most and (queue.counts[to] or 0) + queue.tally[to] > most then due_at('due', now, 'n' .. to .. queue.name) end
end

-- its dedupe key is free again; with a dedupeTtl it holds on after the end
local function free_dedupe(job)
  local key = job:option('dedupe') and P .. 'dedupe:' .. job:option('dedupe')
  if key and call('GET', key) == job.id and (not job.te or call('PTTL', key) < 0) then call('DEL', key) end
end

local function tell_waiters(job) call_out('j' .. job.id) end

-- the last transition of a job; it must have left its ring or its lease already
local function finish(job, queue, action, to, kind, extra)
  local was_active = job.s == 'a'
  transition(job, queue, action, to)
  job:set('te', NOW)
  if job.tr then job:set('tr', false) end
  retire(job, queue, to)
  sample(queue)
  measure(queue, STATE_NAMES[to], 1)
  if was_active then observe(queue, 'run', now - job:number('ts')) end
  free_dedupe(job)
  if kind then event(job, kind, extra) end
  if job.ch then due_at('due', now, 'c' .. job.id) end
  tell_waiters(job)
end

local function backoff_ms(job, queue, failures, random)
  local delay = job:option('delay') or tonumber(call('HGET', queue.key, 'backoff_delay') or meta[8] or 1000)
  local kind = job:option('backoff') or call('HGET', queue.key, 'backoff_type') or 'exponential'
  local most = job:option('max_delay') or tonumber(call('HGET', queue.key, 'backoff_max') or nil) or 86400000 * 365
  local jitter = job:option('jitter') or tonumber(call('HGET', queue.key, 'backoff_jitter') or 0)
  if kind == 'exponential' then delay = delay * 2 ^ math.min(failures - 1, 40) end
  delay = math.min(delay, most)
  return math.floor(delay * (1 - jitter + 2 * jitter * (random or 0.5)))
end

local function attempts_of(job, queue) return job:option('attempts') or queue.attempts end

-- a reported failure of an active job: another attempt, or the end. `how`: error code retry delay allowed random
local function fail(job, queue, how)
  leave_active(job, queue)
  job:set('f', job:number('f') + 1)
  late(job, 'e', how.error)
  late(job, 'c', how.code)
  local attempts = attempts_of(job, queue) or (how.allowed or 0) + 1
  if how.retry == false or job:number('f') >= attempts then
    finish(job, queue, 'fail', 'f', 'failed', how.error)
    return
  end
  attempt_over(job, 'retrying', how.error)
  local delay = how.delay or backoff_ms(job, queue, job:number('f'), how.random)
  if delay > 0 then wait_until(job, queue, 'fail', now + delay) else wait_in_ring(job, queue, 'fail') end
  event(job, 'retrying', how.error)
end

-- a lost lease is no reported failure: back at once, until the job has lost more leases than it may
local function stall(job, queue, err)
  leave_active(job, queue)
  job:set('b', job:number('b') + 1)
  job:set('l', false)
  measure(queue, 'stalled', 1)
  if job:number('b') > (job:option('stalls') or 3) then
    err = err or '"its workers lost its lease ' .. int(job:number('b')) .. ' times"'
    late(job, 'e', err)
    late(job, 'c', 'STALLED')
    finish(job, queue, 'stall', 'f', 'failed', err)
    return
  end
  attempt_over(job, 'stalled', err)
  wait_in_ring(job, queue, 'stall')
  event(job, 'stalled')
end

-- every 409 to a tokenless write is remembered for a minute: as many tokenless `failed` mean a loser of `started`
local function conflicts(job)
  local n, till = string.match(job.g or '', '(%d+):(%d+)')
  if not n or tonumber(till) <= now then return 0 end
  return tonumber(n), tonumber(till)
end
local function remember_conflict(job) job:set('g', int(conflicts(job) + 1) .. ':' .. int(now + 60000)) end
local function forget_conflict(job)
  local n, till = conflicts(job)
  if n <= 1 then job:set('g', false) else job:set('g', int(n - 1) .. ':' .. int(till)) end
end

-- `entries`: others that go the same way
local function index(job, command, entries)
  entries = entries or {}
  local function add(entry)
    if command == 'ZADD' then entries[#entries + 1] = 0 end
    entries[#entries + 1] = entry
  end
  for at = 1, #(job.i or ''), 6 do add('m' .. string.sub(job.i, at, at + 5) .. job.n) end
  if #entries > 0 then call(command, P .. 'ix', unpack(entries)) end
end

local function set_metadata(job, metadata, hashes)
  index(job, 'ZREM')
  job:set('i', hashes ~= '' and hashes or false)
  index(job, 'ZADD')
  late(job, 'm', metadata)
  job:set('v', job:number('v') + 1)
end

-- without a trace: record, index, counters. The job is in no ring, under no lease; whoever depends on it is told by
-- the due entry 'c', which the caller files
local function remove(job)
  index(job, 'ZREM', {'s' .. job.s .. job.q .. '\0' .. job.n, 't' .. (job.t or '') .. '\0' .. job.n})
  call('ZREM', P .. 'all', job.id)
  call('ZREM', P .. 'end', job.id)
  free_dedupe(job)
  if not job.te then tell_waiters(job) end
  call('UNLINK', P .. 'd:' .. job.id, P .. 'j:' .. job.id, P .. 'x:' .. job.id, P .. 'logs:' .. job.id)
  if APP_ID == '~' then call('UNLINK', P .. 'body:' .. job.id, P .. 'at:' .. job.id) end      -- lib/delivery
  tally(queue_load(job.q), job.s, -1)
end
