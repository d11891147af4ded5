-- What a worker says of a job that it runs.
--   a report: {id, kind progress|complete|fail|stall|release, token or nil, fresh (token for an implicit start),
--     progress, result, error, code, loser (the error text contains 409), retry, delay, allowed, data, lease, worker, random,
--     metadata {text, hashes, version the merge was made from}, unknown (release: no such task there)}
--   its answer: {state, attempt, ignored 0|1, token or '', lease end or ''} or {'!', code, sentence} or
--     {'~'} when the metadata changed meanwhile (merge again)
--   events: progress, completed, failed, retrying, stalled; started before them where the job was waiting
--@include lib/job
local touched = false
local function state_of(job, ignored)
  local active = job.s == 'a'
  return {job.s, job:number('a'), ignored or 0, active and job.l or '', active and call('ZSCORE', P .. 'act', job.id) or ''}
end
local function refuse(job, report, code, sentence)
  if not report.token then
    remember_conflict(job)
    job:save()
  end
  return {'!', code, sentence}
end
local LOST = 'The lease of this job is not yours any more: what it does now is decided elsewhere.'
local NO_TOKEN = 'The job is held under a lease: send the leaseToken that the answer to its claim (or started) has.'

-- a tokenless `failed` right after a tokenless 409 comes from a loser of `started` (CONTRACT.md, PUT)
local function loser_speaks(job, report)
  if report.kind ~= 'fail' or report.token then return false end
  if conflicts(job) == 0 then return job.s == 'x' end
  if job.s == 'a' and not job.h and not report.loser then return false end
  forget_conflict(job)
  return true
end

local function after_the_end(job, report)
  if report.token and report.token ~= job.l then return refuse(job, report, 'LEASE_LOST', LOST) end
  if job.s == 'x' then return refuse(job, report, 'JOB_CANCELLED', 'The job was cancelled.') end
  if (report.kind == 'complete' and job.s == 'c') or (report.kind == 'fail' and job.s == 'f') then return state_of(job) end
  return refuse(job, report, 'JOB_ENDED', 'The job has ended already, as ' .. STATE_NAMES[job.s] .. '.')
end

local function not_running(job, report)
  if report.token then
    if report.token == job.l and report.kind == 'fail' then return state_of(job) end   -- the same failure, reported twice
    return {'!', 'LEASE_LOST', LOST}
  end
  if job.s == 'd' then return refuse(job, report, 'NOT_DUE', 'The job is not due yet.') end
  return nil                                                                        -- waiting: starts implicitly
end

local function give_back(job, queue, report)
  if report.unknown then
    job:set('un', job:number('un') + 1)
    if job:number('un') >= MOST_RETURNS then return fail(job, queue, {error = report.error, code = report.code, retry = false}) end
  end
  leave_active(job, queue)
  job:set('a', job:number('a') - 1)
  job:set('l', false)
  if report.delay and report.delay > 0 then wait_until(job, queue, 'release', now + report.delay)
  else wait_in_ring(job, queue, 'release') end
end

local function apply(job, queue, report)
  if report.token then job:set('h', '1') end                   -- from now on the token is required
  if report.metadata then set_metadata(job, report.metadata[1], report.metadata[2]) end
  if report.result then set_result(job, report.result) end
  if report.progress then late(job, 'p', report.progress) end
  if report.worker and not job.w then job:set('w', report.worker) end
  if report.kind == 'progress' then
    lease(job, report.lease or job:number('m'))
    event(job, 'progress', report.progress)
  elseif report.kind == 'complete' then
    leave_active(job, queue)
    if job:number('a') > 1 then call('HDEL', P .. 'x:' .. job.id, 'e', 'c') end     -- of an earlier attempt
    finish(job, queue, 'complete', 'c', 'completed')
  elseif report.kind == 'fail' then
    if report.data then late(job, 'd', report.data) end
    fail(job, queue, report)
  elseif report.kind == 'stall' then
    stall(job, queue, report.error)
  else
    give_back(job, queue, report)
  end
end

local function settle(report)
  local job = job_load(report.id)
  if not job then return {'!', 'NOT_FOUND', 'There is no such job.'} end
  if loser_speaks(job, report) then
    job:save()
    return state_of(job, 1)
  end
  if job.s == 'c' or job.s == 'f' or job.s == 'x' then return after_the_end(job, report) end
  local queue = queue_load(job.q)
  if job.s ~= 'a' then
    local refused = not_running(job, report)
    if refused then return refused end
  elseif (report.token and report.token ~= job.l) or (not report.token and job.h) then
    return refuse(job, report, 'LEASE_LOST', report.token and LOST or NO_TOKEN)
  end
  if report.metadata and report.metadata[3] ~= job:number('v') then return {'~'} end
  if job.s == 'w' then                                         -- the work is done: pause and limits do not matter
    dequeue(queue, job.k, job.n)
    start(job, queue, report.fresh, report.lease or queue.started_lease or 1800000, false, report.worker)
    if job.k then regroup(queue, job.k) end
    rate_take(queue, 1)
  end
  touched = true
  apply(job, queue, report)
  job:save()
  return state_of(job)
end
