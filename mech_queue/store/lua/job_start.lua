-- PUT started: take one named job, under the same limits as a claim.
--   args: id, given (a lease token or nil), token (new), lease (ms) or nil, worker or nil
--   answer: {token, lease end, attempt} or {'!', code, sentence}; a refused tokenless write is remembered
--   events: started
--@include lib/job
local job = job_load(args.id)
if not job then return {'!', 'NOT_FOUND', 'There is no such job.'} end
local queue = queue_load(job.q)

local function refuse(code, sentence)
  if not args.given then
    remember_conflict(job)
    job:save()
  end
  commit(0)
  return {'!', code, sentence}
end

if job.s == 'a' and args.given and args.given == job.l then
  job:set('h', '1')
  job:save()
  return commit({job.l, call('ZSCORE', P .. 'act', job.id), int(job:number('a'))})
end
if job.s == 'a' then return refuse('JOB_TAKEN', 'Another worker has started this job.') end
if job.s == 'd' then return refuse('NOT_DUE', 'The job is not due yet.') end
if job.s == 'x' then return refuse('JOB_CANCELLED', 'The job was cancelled.') end
if job.s ~= 'w' then return refuse('JOB_ENDED', 'The job has ended already.') end
if queue.paused then return refuse('QUEUE_PAUSED', 'The queue is paused.') end
if queue.active >= queue.concurrency then return refuse('LIMIT_REACHED', 'The queue runs as many jobs as its concurrency allows.') end
if application_free(queue) <= 0 then return refuse('LIMIT_REACHED', 'The application runs as many jobs as its maxConcurrentJobs allows.') end
if rate_free(queue) <= 0 then return refuse('LIMIT_REACHED', 'The queue has started as many jobs as its rateLimit allows for now.') end
if job.k and key_running(queue, job.k) >= key_limit(queue, job.k) then
  return refuse('LIMIT_REACHED', 'As many jobs of this concurrencyKey run as the queue allows.')
end
if queue.lap then queue.lap = false call('HDEL', queue.key, 'lap') end
drop_held(queue)
dequeue(queue, job.k, job.n)
local ends = start(job, queue, args.token, args.lease or queue.started_lease or 1800000, false, args.worker)
if job.k then regroup(queue, job.k) end
rate_take(queue, 1)
if now - queue.seen > 1000 then call('HSET', queue.key, 'seen', NOW) end
job:save()
refill(queue)
return commit({job.l, int(ends), int(job:number('a'))})
