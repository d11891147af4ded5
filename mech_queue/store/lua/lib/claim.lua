-- Taking the next jobs, in exact order, under all limits. One logic for HTTP and native workers.
--   args: queues in order of preference, limit, lease (ms) or nil, token, worker, nonce or nil, kind http|native
--   events: started
--   <P>nonce:<hash of a nonce> string: msgpack of the ids and tokens it got, for 10 minutes (native: a lease)
--   <P>workers zset: last seen ms -> kind \0 worker \0 queue
--@include lib/job
local claimed = {}

local function tell(job, queue, ends)
  local fresh = job:number('a') == 1 and not job.v               -- its data and metadata are as they came
  local x = fresh and {} or call('HMGET', P .. 'x:' .. job.id, 'd', 'm')
  claimed[#claimed + 1] = {job.id, job.q, job.t or job.q, call('GET', P .. 'd:' .. job.id), x[1] or '', x[2] or '',
    job:number('a'), job:number('f'), job:number('b'), job:number('p'), job.l, ends,
    from_seq8(job.n), attempts_of(job, queue) or '', job.o or ''}
end

-- the answer to this nonce was lost: what it took and still holds, with the same tokens
local function claimed_before()
  local before = args.nonce and call('GET', P .. 'nonce:' .. args.nonce)
  for _, held in ipairs(before and cmsgpack.unpack(before) or {}) do
    local job = job_load(held[1])
    if job and job.s == 'a' and job.l == held[2] then
      tell(job, queue_load(job.q), tonumber(call('ZSCORE', P .. 'act', job.id)))
    end
  end
  return #claimed > 0
end

-- a key of the ring: its oldest best job, or nil when its limit was lowered meanwhile
local function head_of(queue, member)
  local key = string.sub(member, 9)
  if key_running(queue, key) >= key_limit(queue, key) then return nil end
  local head = call('ZPOPMIN', key_waiting(queue, key))
  return head[1], key
end

local function take_from(queue, most)
  local got, stale, popped, at = 0, 0, {}, 1
  local at_once = most > 1 and call('EXISTS', queue.turns) == 0 and most or 1   -- a served key takes a place behind others
  while got < most and stale < 100 do
    if not popped[at] then popped, at = call('ZPOPMIN', queue.ring, at_once), 1 end
    if not popped[at] then break end
    local seq, key = popped[at], nil
    at = at + 2                                                  -- each is followed by its score
    if #seq > 8 then seq, key = head_of(queue, seq) end
    if not seq then
      stale = stale + 1
    else
      local age = int(from_seq8(seq))
      local job = job_load(call('ZRANGEBYSCORE', P .. 'all', age, age)[1])
      local ms = args.lease or queue.lease or 60000
      local ends = start(job, queue, args.token .. '.' .. int(#claimed + 1), ms, true, args.worker)
      if key then
        call('HSET', queue.turns, key, seq8(tick()))          -- a served key goes behind the others
        regroup(queue, key)
      end
      job:save()
      tell(job, queue, ends)
      got = got + 1
    end
  end
  return got
end

-- a native worker has one for each job, and asks again at once or not at all: its lease is long enough
local function remember_claimed()
  if not args.nonce or #claimed == 0 then return end
  local held, kept = {}, 600000
  for i, job in ipairs(claimed) do held[i] = {job[1], job[11]} end
  if args.kind == 'native' then kept = math.max(1, math.min(kept, claimed[1][12] - now)) end
  call('SET', P .. 'nonce:' .. args.nonce, cmsgpack.pack(held), 'PX', int(kept))
end

-- who asked. The exchanges of a native worker are not counted: it says by itself that it is there (worker_seen)
local function remember_worker()
  if not args.worker or args.worker == '' then return end
  for _, name in ipairs(args.queues) do
    call('ZADD', P .. 'workers', NOW, args.kind .. '\0' .. args.worker .. '\0' .. name)
  end
end

-- answers {runnable jobs left in the last queue asked, {{id, queue, task, blob, data, metadata, a, f, b, p, token,
-- lease end, seq, attempts or '', options or ''}, …}}; the caller refills the queues. `first`: it is no call repeated
local function claim(first)
  if not first and claimed_before() then return {0, claimed} end
  local runnable = 0
  for _, name in ipairs(args.queues) do
    local queue = queue_load(name)
    if queue.lap then queue.lap = false call('HDEL', queue.key, 'lap') end
    local had = drop_held(queue)
    local most = args.limit - #claimed
    if queue.paused then most = 0 end
    most = math.min(most, queue.concurrency - queue.active, app.max - app.active - app.held)
    if most > 0 then most = math.min(most, rate_free(queue)) end
    local got = most > 0 and take_from(queue, most) or 0
    if got > 0 then rate_take(queue, got) end
    if queue.known and now - queue.seen > 1000 then call('HSET', queue.key, 'seen', NOW) end
    if had and got == 0 then wake_application() end              -- the held slot was not used: the next in turn
    if got > 0 and not queue.paused then runnable = startable(queue, WINDOW) end
    if #claimed >= args.limit then break end
  end
  remember_claimed()
  return {runnable, claimed}
end
