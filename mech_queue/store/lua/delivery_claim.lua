-- Take the next delivery of the shard: in turn among applications, then among their endpoints, under slots and breakers.
--   Run for application `~`. args: token, lease (ms)
--   answer: {id, token, lease end, attempt, failures so far, blob, body, receiver} or {} when nothing may be sent now
--   receiver: who gets it as it is now, SUBSCRIPTION_FIELDS of its subscription or {sealed secrets, deleted} of the application
--@allow-oom
--@include lib/delivery
local queue = webhooks_queue()
local body = {}
local function receiver(about)
  local prefix = S .. about[2] .. ':'
  if about[7] == '' then return call('HMGET', prefix .. 'about', 'sealed', 'deleted') end
  return call('HMGET', prefix .. 'sub:' .. about[7], unpack(SUBSCRIPTION_FIELDS))
end
-- those without room are in no ring, but where slots became fewer a moment ago
local function next_key(ring)
  for _ = 1, 100 do
    local popped = call('ZPOPMIN', ring)[1]
    local key = popped and string.sub(popped, 9)
    if not key or key_running(queue, key) < key_limit(queue, key) then return key end
  end
end
local application = next_key(queue.ring)
local endpoint = application and next_key(key_waiting(queue, application))
local head = endpoint and call('ZPOPMIN', key_waiting(queue, endpoint))[1]
if head then
  local seq, turn = int(from_seq8(head)), seq8(tick())
  local job = job_load(call('ZRANGEBYSCORE', P .. 'all', seq, seq)[1])
  call('HSET', queue.turns, endpoint, turn, application, turn)   -- who is served goes behind the others
  local ends = start(job, queue, args.token, args.lease, true)
  job:save()
  local blob = call('GET', P .. 'd:' .. job.id)
  body = {job.id, args.token, int(ends), int(job:number('a')), int(job:number('f')), blob,
    call('GET', P .. 'body:' .. job.id) or '', receiver(cmsgpack.unpack(blob))}
end
if application then regroup(queue, endpoint or application) end
refill(queue)
return commit(body)
