-- A new job: the one way in, for submits and for schedules.
--   spec: {id, q queue, t task or nil, p, k, o options or nil, i hashes or nil, hk, blob, delay, run_at,
--     expires, dedupe, dedupe_ttl, debounce, parents, on_parent}; answer of submit: {0|1 deduplicated, id} or {'!', code, sentence}
--   <P>dedupe:<hash of queue and key> string: id of its first job   <P>children:<id> set: ids of jobs that wait for this one
--@include lib/job
local function refuse(code, sentence) return {'!', code, sentence} end

-- the job that has the key, and its id; with a dedupeTtl also one that has ended, or is gone by now
local function duplicate_of(spec)
  local id = call('GET', P .. 'dedupe:' .. spec.dedupe)
  local job = id and job_load(id)
  if id and (spec.dedupe_ttl or (job and not job.te)) then return id, job end
end

-- the waiting job takes the place of the new one: its data (replace), or only its time (extend)
local function debounce(job, spec, queue)
  if spec.debounce == 'replace' then
    late(job, 'd', spec.data)
    set_metadata(job, spec.metadata, spec.i or '')
  end
  local at = spec.run_at or (spec.delay and now + spec.delay) or now
  if at > now and not job.pc then
    leave_waiting(job, queue)
    wait_until(job, queue, 'postpone', at)
    if job:option('expires') then due_at('due', now + job:option('expires'), 'x' .. job.id) end
  end
end

-- an id as callers write it
local function id_text(id)
  local hex = string.gsub(id, '.', function(byte) return string.format('%02x', string.byte(byte)) end)
  return (string.gsub(hex, '^(........)(....)(....)(....)', '%1-%2-%3-%4-'))
end

-- how many are awaited, and whether one has failed; nil and the id of one that does not exist
local function parents_of(spec)
  local awaited, broken, parents = 0, false, {}
  for at, parent in ipairs(spec.parents or {}) do
    parents[at] = job_load(parent)
    if not parents[at] then return nil, parent end               -- before anything is written
  end
  for _, job in ipairs(parents) do
    if job.s == 'f' or job.s == 'x' then
      broken = broken or spec.on_parent ~= 'run'
    elseif job.s ~= 'c' then
      awaited = awaited + call('SADD', P .. 'children:' .. job.id, spec.id)     -- a parent named twice counts once
      job:set('ch', '1')
      job:save()
    end
  end
  return awaited, broken
end

-- not a call that is repeated after its answer was lost: that job was taken
local function refuse_new(spec, code, sentence)
  if call('EXISTS', P .. 'j:' .. spec.id) == 1 then return {0, spec.id} end
  return refuse(code, sentence)
end

local function submit(spec)
  local queue = queue_load(spec.q)
  if queue.draining then return refuse_new(spec, 'QUEUE_DRAINING', 'The queue takes no new jobs: it is being drained.') end
  if spec.dedupe then
    local id, first = duplicate_of(spec)
    if id == spec.id then return {0, id} end
    if id then
      if first and spec.debounce and (first.s == 'w' or first.s == 'd') then
        debounce(first, spec, queue_load(first.q))
        first:save()
      end
      return {1, id}
    end
  end
  if app.backlog >= app.max_waiting then
    return refuse_new(spec, 'QUEUE_FULL', 'The application has ' .. int(app.backlog) .. ' jobs waiting, as many as its maxWaiting allows; try again later.')
  end
  if not call('SET', P .. 'd:' .. spec.id, spec.blob, 'NX') then return {0, spec.id} end     -- the same call, repeated
  local awaited, broken = parents_of(spec)
  if not awaited then
    call('DEL', P .. 'd:' .. spec.id)
    return refuse('INVALID', 'options.dependsOn names a job that does not exist: ' .. id_text(broken))
  end
  queue_create(queue)
  local seq = tick()
  local job = job_new(spec.id)
  local at = spec.run_at or (spec.delay and now + spec.delay) or now
  local state = (awaited > 0 or broken or at > now) and 'd' or 'w'
  job:set('q', spec.q) job:set('s', state) job:set('n', seq8(seq))
  if spec.p and spec.p ~= 0 then job:set('p', spec.p) end
  for _, field in ipairs({'k', 't', 'o', 'i'}) do if spec[field] then job:set(field, spec[field]) end end
  if spec.hk and spec.hk > 0 then job:set('hk', spec.hk) end
  call('ZADD', P .. 'all', int(seq), spec.id)
  local entries = {0, 's' .. state .. spec.q .. '\0' .. job.n}
  if job.t then entries[3], entries[4] = 0, 't' .. job.t .. '\0' .. job.n end
  index(job, 'ZADD', entries)
  tally(queue, state, 1)
  sample(queue)
  measure(queue, 'submitted', 1)
  app.backlog = app.backlog + 1
  event(job, 'created')
  if awaited > 0 then job:set('pc', awaited) end
  if state == 'w' then
    enqueue(queue, job.k, job:number('p'), job.n)
  else
    if at > now then job:set('tr', at) end
    if awaited == 0 and not broken then due_at('due', at, 'd' .. job.id) end
  end
  if spec.expires and not broken then due_at('due', now + spec.expires, 'x' .. job.id) end
  if broken then
    late(job, 'e', '"a job it depends on has failed"')
    late(job, 'c', 'PARENT_FAILED')
    finish(job, queue, 'orphan', 'f', 'failed', '"a job it depends on has failed"')
  end
  if spec.dedupe then
    if spec.dedupe_ttl then call('SET', P .. 'dedupe:' .. spec.dedupe, spec.id, 'PX', int(spec.dedupe_ttl))
    else call('SET', P .. 'dedupe:' .. spec.dedupe, spec.id) end
  end
  job:save()
  return {0, spec.id}
end
