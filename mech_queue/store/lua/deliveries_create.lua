-- Keep the deliveries of a batch of events, up to 100 in one call, and at the last call tick the batch off.
--   Run for application `~`. args: slots {endpoint, application} or nil, batch (id, with the last call) or nil,
--     deliveries: list of {id, k endpoint, o options, i hashes, blob, body, app, sub or nil, skip true: only written down,
--       coalesce (16 bytes: progress of this job to this receiver) with seq, at ms or nil: not before}
--   answer: how many are new
--@include lib/submit
--@include lib/delivery
local queue = webhooks_queue(args.slots)

-- progress: at most one a second to one receiver. nil: a newer or equal one is known, or this one took the place of one that
-- waits; else the time at which it is due
local function coalesced(spec)
  local key = P .. 'pg:' .. spec.coalesce
  local known, at = call('GET', key), now
  if known then
    local last = cmsgpack.unpack(known)
    if spec.seq <= last[3] then return nil end
    local job = job_load(last[2])
    if job and (job.s == 'd' or job.s == 'w') and job:number('a') == 0 then
      call('SET', P .. 'd:' .. job.id, spec.blob)
      call('SET', P .. 'body:' .. job.id, spec.body)
      call('SET', key, cmsgpack.pack({last[1], last[2], spec.seq}), 'PX', 120000)
      return nil
    end
    at = math.max(now, last[1] + 1000)
  end
  call('SET', key, cmsgpack.pack({at, spec.id, spec.seq}), 'PX', 120000)
  return at
end

local function create(spec)
  if call('EXISTS', P .. 'j:' .. spec.id) == 1 then return 0 end
  local at = spec.at
  if spec.coalesce and not spec.skip then
    at = coalesced(spec)
    if not at then return 0 end
  end
  submit({id = spec.id, q = queue.name, k = spec.k, o = spec.o, i = spec.i, blob = spec.blob, run_at = at})
  call('SET', P .. 'body:' .. spec.id, spec.body)
  if spec.skip then
    local job = job_load(spec.id)
    leave_waiting(job, queue)
    delivery_end(job, queue, 'skipped')
    job:save()
  elseif spec.sub then
    subscription_triggered(S .. spec.app .. ':', spec.sub)
  end
  return 1
end

-- every event of the batch is matched: the jobs they are about may go
local function tick_off(batch)
  if call('ZREM', S .. 'matching', batch) == 0 then return end
  local key = S .. 'batch:' .. batch
  for _, packed in ipairs(call('LRANGE', key, 0, -1)) do
    local entry = cmsgpack.unpack(packed)
    local job = S .. entry[1] .. ':j:' .. entry[3]
    local left = tonumber(call('HGET', job, 'u') or 0) - 1
    if left > 0 then call('HSET', job, 'u', int(left)) elseif left == 0 then call('HDEL', job, 'u') end
  end
  call('DEL', key)
end

local made = 0
for _, spec in ipairs(args.deliveries) do made = made + create(spec) end
if args.batch then tick_off(args.batch) end
refill(queue)
return commit(made)
