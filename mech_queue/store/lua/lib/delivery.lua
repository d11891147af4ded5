-- A delivery: a job of the shard's application `~` in queue `webhooks`, whose concurrency key is its endpoint
-- ("<application> <origin>"); endpoints wait in turn among those of their application, and applications among each other.
-- What is more than a job:
--   d:<id> msgpack {1, application, event name, job id or '', sequence, ms, subscription id or '', URL, queue}
--   <P>body:<id> string: the bytes that every attempt sends
--   <P>at:<id> list of attempts: msgpack {number, ms, duration, ok 0|1, status or 0, code, error, excerpt, truncated 0|1, manual 0|1}
--   x:<id> c error code (also `skipped`: nothing was sent), st last status, man: the next attempt was asked for by hand
--   <P>kept:<state><endpoint> list: ids of what ended so, oldest first
--   <P>ep:<endpoint> hash, the circuit breaker: fails in a row, until ms, length ms of the present opening
--   <P>kl:webhooks endpoint -> 0 (open) | 1 (one probe); absent: closed   <P>due members here: b<endpoint> time for a probe,
--     e<hash of a subscription><entry> it is gone: what waits for it ends
--   <P>pg:<hash of job and receiver> progress sent last: msgpack {ms it is due, id, sequence}
--   <S><application>:hooks hash: call:<event>:<outcome>, send:<bound in ms> send:inf send:sum, off:<reason> subscriptions
--     that were switched off
--@include lib/job
--@include lib/subscription
local FAILURES_TO_OPEN, FIRST_OPENING, LONGEST_OPENING = 5, 30000, 600000
local KEEP_SECONDS, MOST_ATTEMPTS = 604800, 100
local KEEP_MOST = 10000                                    -- per endpoint, and per way to end
local SLOTS = {endpoint = 16, application = 32}            -- until a process says otherwise

-- the only queue of `~`; `slots`: deliveries to one endpoint and of one application at a time, nil: as many as before
local function webhooks_queue(slots)
  local queue = queue_load('webhooks')
  if not queue.known then
    slots = slots or SLOTS
    queue_create(queue)
    for _, name in ipairs({'completed', 'failed', 'cancelled'}) do
      call('HSET', queue.key, 'keep_' .. name .. '_s', KEEP_SECONDS)
    end
  end
  if slots and (queue.per_key ~= slots.endpoint or queue.per_application ~= slots.application) then
    queue.per_key, queue.per_application = slots.endpoint, slots.application
    call('HSET', queue.key, 'per_key', int(slots.endpoint), 'per_application', int(slots.application))
    due_at('due', now, 'k' .. queue.name)
  end
  return queue
end

local function delivery_about(id) return cmsgpack.unpack(call('GET', P .. 'd:' .. id)) end

local function endpoint_limit(queue, key, limit)
  if limit then call('HSET', P .. 'kl:' .. queue.name, key, limit) else call('HDEL', P .. 'kl:' .. queue.name, key) end
  regroup(queue, key)
end

local function endpoint_open(queue, key, ms)
  call('HSET', P .. 'ep:' .. key, 'until', int(now + ms))
  call('PEXPIRE', P .. 'ep:' .. key, 86400000)
  due_at('due', now + ms, 'b' .. key)
  endpoint_limit(queue, key, 0)
end

-- the opening is over: one delivery may try
local function endpoint_probe(queue, key)
  if call('HGET', P .. 'kl:' .. queue.name, key) ~= '0' then return end
  endpoint_limit(queue, key, call('EXISTS', P .. 'ep:' .. key) == 1 and 1 or nil)
end

-- an attempt went well or not; `hold`: the receiver is short of breath, nothing more goes there for so long (ms)
local function endpoint_result(queue, key, well, hold)
  local breaker, limit = P .. 'ep:' .. key, call('HGET', P .. 'kl:' .. queue.name, key)
  if well then
    if call('DEL', breaker) == 1 or limit then
      call('ZREM', P .. 'due', 'b' .. key)
      endpoint_limit(queue, key, nil)
    end
    return
  end
  local fails = call('HINCRBY', breaker, 'fails', 1)
  call('PEXPIRE', breaker, 86400000)
  if limit == '0' then                              -- was on its way when it opened
    if hold and now + hold > tonumber(call('HGET', breaker, 'until') or 0) then endpoint_open(queue, key, hold) end
    return
  end
  local length = tonumber(call('HGET', breaker, 'length') or 0)
  if limit == '1' or fails >= FAILURES_TO_OPEN then
    length = math.min(math.max(length * 2, FIRST_OPENING), LONGEST_OPENING)
    call('HSET', breaker, 'length', int(length))
    endpoint_open(queue, key, math.max(length, hold or 0))
  elseif hold then
    endpoint_open(queue, key, hold)
  end
end

local function tally_call(about, outcome, ms)
  local key = S .. about[2] .. ':hooks'
  count(key, 'call:' .. about[3] .. ':' .. outcome, 1)
  if not ms then return end
  count(key, 'send:sum', ms)
  for _, bound in ipairs(BUCKETS) do
    if ms <= bound then count(key, 'send:' .. bound, 1) return end
  end
  count(key, 'send:inf', 1)
end

local function log_attempt(job, attempt)
  local manual = call('HDEL', P .. 'x:' .. job.id, 'man')
  call('RPUSH', P .. 'at:' .. job.id, cmsgpack.pack({job:number('a'), job:number('ts'), attempt.ms, attempt.ok and 1 or 0,
    attempt.status or 0, attempt.code or '', attempt.error or '', attempt.excerpt or '', attempt.truncated and 1 or 0, manual}))
  call('LTRIM', P .. 'at:' .. job.id, -MOST_ATTEMPTS, -1)
  late(job, 'c', attempt.code)
  late(job, 'st', attempt.status and int(attempt.status))
end

-- its last transition. Each endpoint keeps the newest KEEP_MOST that ended alike, whatever others send
local function delivery_finish(job, queue, action, to)
  finish(job, queue, action, to)
  local list = P .. 'kept:' .. to .. job.k
  if call('RPUSH', list, job.id) > KEEP_MOST then
    local oldest = job_load(call('LPOP', list))
    if oldest and oldest.s == to and oldest.id ~= job.id then remove(oldest) end
  end
  call('EXPIRE', list, KEEP_SECONDS)
end

-- it is not sent, or not again; `why`: cancelled or skipped
local function delivery_end(job, queue, why)
  late(job, 'c', why)
  delivery_finish(job, queue, 'cancel', 'x')
end

-- its worker died while it was sending: that attempt counts, the next may come at once
local function delivery_interrupted(job, queue)
  leave_active(job, queue)
  job:set('l', false)
  job:set('f', job:number('f') + 1)
  log_attempt(job, {ms = now - job:number('ts'), code = 'interrupted', error = 'The worker that was sending it died.'})
  tally_call(delivery_about(job.id), 'interrupted')
  if job:number('f') >= (job:option('attempts') or 10) then
    delivery_finish(job, queue, 'stall', 'f')
  else
    wait_in_ring(job, queue, 'stall')
  end
end

-- what waits for a subscription that is gone ends, `most` in one step. `what`: six bytes that stand for its deliveries in
-- the index, then the entry to go on behind
local function deliveries_end(what, most)
  local prefix, behind = 'm' .. string.sub(what, 1, 6), string.sub(what, 7)
  local from = behind == '' and '[' .. prefix or '(' .. prefix .. behind
  local entries = call('ZRANGEBYLEX', P .. 'ix', from, '(' .. prefix .. '\255', 'LIMIT', 0, most)
  for _, entry in ipairs(entries) do
    behind = string.sub(entry, #prefix + 1)
    local seq = int(from_seq8(behind))
    local id = call('ZRANGEBYSCORE', P .. 'all', seq, seq)[1]
    local job = id and job_load(id)
    local about = job and (job.s == 'w' or job.s == 'd') and delivery_about(id)
    if about and subscription_gone(S .. about[2] .. ':', about[7]) then
      local queue = queue_load(job.q)
      leave_waiting(job, queue)
      delivery_end(job, queue, 'cancelled')
      job:save()
    end
  end
  if #entries == most then due_at('due', now, 'e' .. string.sub(what, 1, 6) .. behind) end
end

-- every 500 ms while events wait or are being matched: wake-ups may have been lost, workers may have died
local function repair_matching()
  local waiting = call('LLEN', S .. 'pending')
  local expired = call('ZCOUNT', S .. 'matching', '-inf', NOW)
  if waiting + expired > 0 then
    wake_stage('subscriptions', 'mech_queue.match', waiting + 100 * expired)
    if meta[6] == 'count' then look_elsewhere(P .. 'q:subscriptions', 'subscriptions.' .. SHARD) end
  end
  if waiting > 0 or call('EXISTS', S .. 'matching') == 1 then due_at('due', now + 500, 'm') end
end
