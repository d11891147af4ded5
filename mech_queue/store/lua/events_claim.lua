-- Take up to args.limit events of the shard for matching, under a lease; batches whose worker died come first.
--   Run for application `~`. args: batch (new id), limit, lease (ms)
--   what would weigh more than some 4 MiB (jobs, and half a KiB for each delivery that may come of it) goes back to the
--     front of the list
--   <S>matching zset: lease end -> batch   <S>batch:<id> list of events
--   answer: {batch id, {event, packed ids of the subscriptions that may want it} each, {application, job view} each} or {}
--@include lib/job
--@include lib/view
--@include lib/subscription
local expired = call('ZRANGEBYSCORE', S .. 'matching', '-inf', NOW, 'LIMIT', 0, 1)[1]
local batch = expired or args.batch
local key = S .. 'batch:' .. batch
if not expired then
  local taken = call('LPOP', S .. 'pending', args.limit)
  if not taken or #taken == 0 then return commit({}) end
  call('RPUSH', key, unpack(taken))
end
call('ZADD', S .. 'matching', int(now + args.lease), batch)
local events = call('LRANGE', key, 0, -1)
if #events == 0 then call('ZREM', S .. 'matching', batch) return commit({}) end
local taken, jobs, known, weight = {}, {}, {}, 0
-- what the index asks of a job, which goes into the answer once; one that is gone (with its application) has no queue
local function job_of(application, id)
  local name = application .. id
  if known[name] then return known[name] end
  P = S .. application .. ':'
  local shown, v = view(id), call('HMGET', P .. 'j:' .. id, 'q', 'i')
  known[name] = {queue = v[1], hashes = v[2] or ''}
  if shown then
    jobs[#jobs + 1] = {application, shown}
    weight = weight + #shown[3]
    for _, text in ipairs(shown[4]) do weight = weight + #text end
  end
  return known[name]
end
for n, packed in ipairs(events) do
  local entry = cmsgpack.unpack(packed)
  local job = job_of(entry[1], entry[3])
  if job.queue then
    local ids = subscription_candidates(S .. entry[1] .. ':', entry[2], job.queue, job.hashes)
    taken[#taken + 1] = {packed, ids}
    weight = weight + 32 * #ids
  end
  if weight > 4194304 and n < #events then
    for at = #events, n + 1, -1 do call('LPUSH', S .. 'pending', events[at]) end
    call('LTRIM', key, 0, n - 1)
    break
  end
end
P = S .. APP_ID .. ':'
local waiting = call('LLEN', S .. 'pending')
if waiting > 0 then wake_stage('subscriptions', 'mech_queue.match', waiting) end
return commit({batch, taken, jobs})
