-- Take the next delivery of the shard, in turn among endpoints, under their slots and breakers.
--   Run for application `~`. args: token, lease (ms)
--   answer: {id, token, lease end, attempt, failures so far, blob, body, receiver} or {} when nothing may be sent now
--   receiver: who gets it as it is now, SUBSCRIPTION_FIELDS of its subscription or {sealed secrets, deleted} of the application
--@allow-oom
--@include lib/delivery
local queue = webhooks_queue()
local job, body = nil, nil
local function receiver(about)
  local prefix = S .. about[2] .. ':'
  if about[7] == '' then return call('HMGET', prefix .. 'about', 'sealed', 'deleted') end
  return call('HMGET', prefix .. 'sub:' .. about[7], unpack(SUBSCRIPTION_FIELDS))
end
for _ = 1, 100 do
  local popped = call('ZPOPMIN', queue.ring)[1]
  if not popped then break end
  local key = string.sub(popped, 9)                              -- every delivery has an endpoint
  local head = key_running(queue, key) < key_limit(queue, key) and call('ZPOPMIN', key_waiting(queue, key))[1]
  if head then
    local seq = int(from_seq8(head))
    job = job_load(call('ZRANGEBYSCORE', P .. 'all', seq, seq)[1])
    call('HSET', queue.turns, key, seq8(tick()))                 -- a served endpoint goes behind the others
    local ends = start(job, queue, args.token, args.lease, true)
    regroup(queue, key)
    job:save()
    local blob = call('GET', P .. 'd:' .. job.id)
    body = {job.id, args.token, int(ends), int(job:number('a')), int(job:number('f')), blob,
      call('GET', P .. 'body:' .. job.id) or '', receiver(cmsgpack.unpack(blob))}
    break
  end
end
refill(queue)
return commit(body or {})
