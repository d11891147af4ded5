-- Removes what an application has, in steps of at most PART things; the last step leaves only what has a TTL.
--   due entry 'W' of the application, and 'V' .. field of `~` for its deliveries; both filed by application_delete
--@include lib/job
--@include lib/subscription
local PART = 10      -- removals in one run, and steps of what takes several: in a large store each is some 0.2 ms
local function wipe_jobs(most)
  local ids = call('ZRANGE', P .. 'all', 0, most - 1)
  for _, id in ipairs(ids) do
    local job = job_load(id)
    if not job then
      call('ZREM', P .. 'all', id)
    else
      local queue = queue_load(job.q)
      queue.paused = true                           -- nothing is woken for what is about to go
      if job.s == 'a' then leave_active(job, queue) elseif job.s == 'w' or job.s == 'd' then leave_waiting(job, queue) end
      remove(job)
      call('UNLINK', P .. 'children:' .. id)
    end
  end
  return #ids
end

-- in application `~`; `field`: six bytes that stand for "deliveries of this application" in the index. Those on
-- their way now hold a lease and are looked for again when it is over
local function wipe_deliveries(field)
  local prefix, sending = 'm' .. field, 0
  local entries = call('ZRANGEBYLEX', P .. 'ix', '[' .. prefix, '(' .. prefix .. '\255', 'LIMIT', 0, PART)
  for _, entry in ipairs(entries) do
    local seq = int(from_seq8(string.sub(entry, #prefix + 1)))
    local id = call('ZRANGEBYSCORE', P .. 'all', seq, seq)[1]
    local job = id and job_load(id)
    if not job then
      call('ZREM', P .. 'ix', entry)
    elseif job.s == 'a' then
      sending = sending + 1
    else
      if job.s == 'w' or job.s == 'd' then leave_waiting(job, queue_load(job.q)) end
      remove(job)
    end
  end
  if #entries > sending then due_at('due', now, 'V' .. field)
  elseif sending > 0 then due_at('due', now + 60000, 'V' .. field) end
end

local function wipe_subscriptions(most)
  local ids = call('ZRANGE', P .. 'subs', 0, most - 1)
  for _, id in ipairs(ids) do
    subscription_unfile(P, id)
    call('ZREM', P .. 'subs', id)
    call('DEL', P .. 'sub:' .. id)
  end
  return #ids
end

local function wipe_queues(most)
  local names = call('SPOP', P .. 'queues', most)
  for _, name in ipairs(names) do
    local queue = queue_load(name)
    queue.paused = true
    call('UNLINK', queue.key, queue.ring, queue.turns, queue.running, P .. 'kl:' .. name, P .. 'rl:' .. name, P .. 'm:' .. name)
    if meta[6] ~= 'count' then call('UNLINK', broker_list(name)) end
    queues[name], deltas[queue.key] = nil, nil
  end
  return #names
end

local function wipe_schedules(most)
  local ids = call('ZRANGE', P .. 'sch', 0, most - 1)
  for _, id in ipairs(ids) do
    call('ZREM', P .. 'sch', id)
    call('UNLINK', P .. 'sch:' .. id, P .. 'runs:' .. id)
  end
  return #ids
end

local function wipe()
  if call('HEXISTS', P .. 'about', 'deleted') == 0 then return end
  call('UNLINK', P .. 'schedules')                  -- they submit nothing more meanwhile
  local done = wipe_jobs(PART)
  if done == 0 then done = wipe_subscriptions(5) end             -- each is looked for among all that share its places
  if done == 0 then done = wipe_queues(PART) end
  if done == 0 then done = wipe_schedules(PART) end
  if done > 0 then due_at('due', now, 'W') return end
  app.wiped = true
end

-- instead of commit after the last step: nothing of the application may be written again
local function wiped(result)
  publish_called()
  call('UNLINK', P .. 'about', APP, P .. 'keys', P .. 'all', P .. 'ix', P .. 'act', P .. 'due', P .. 'end',
    P .. 'schedules', P .. 'ab', P .. 'res', P .. 'ev', P .. 'subs', P .. 'workers', P .. 'hooks')
  call('ZREM', S .. 'next', APP_ID)
  return {0, result}
end
