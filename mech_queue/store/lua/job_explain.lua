-- Everything that decides whether a job may start. args: id; answer: flat name, value list
--@no-writes
--@include lib/job
local job = job_load(args.id)
if not job then return {'!', 'NOT_FOUND', 'There is no such job.'} end
local queue = queue_load(job.q)
local ahead
if job.s == 'w' then
  ahead = call('ZRANK', job.k and key_waiting(queue, job.k) or queue.ring, job.n)
  local turn = job.k and call('HGET', queue.turns, job.k)
  local keys_ahead = turn and call('ZRANK', queue.ring, turn .. job.k)      -- none when the key is at its limit
  if keys_ahead then ahead = ahead + keys_ahead end
end
local held = app.held - (call('ZSCORE', P .. 'res', queue.name) and 1 or 0)  -- for other queues
local function known(n) return n and n ~= HUGE and int(n) or '' end
-- the sliding log, read without pruning it
local rate, frees = 0, ''
if queue.rate_max then
  for _, entry in ipairs(call('LRANGE', P .. 'rl:' .. queue.name, 0, -1)) do
    local at, n = string.match(entry, '(%d+):(%d+)')
    if tonumber(at) + queue.rate_per > now then
      rate = rate + n
      if frees == '' then frees = int(tonumber(at) + queue.rate_per) end
    end
  end
end
return {0, {'state', job.s, 'now', NOW, 'paused', queue.paused and '1' or '', 'queue_active', int(queue.active),
  'queue_limit', known(queue.concurrency), 'rate_used', int(rate), 'rate_max', known(queue.rate_max), 'rate_frees', frees,
  'key', job.k or '', 'key_active', int(job.k and key_running(queue, job.k) or 0), 'key_limit', known(key_limit(queue, job.k or '')),
  'application_active', int(app.active), 'application_limit', known(app.max), 'held', int(held),
  'run_at', job.tr or '', 'parents', job.pc or '', 'task', job.t or job.q,
  'returns', int(job:number('un')), 'most_returns', MOST_RETURNS, 'seen', int(queue.seen), 'ahead', ahead and int(ahead) or ''}}
