-- PATCH of a job that waits. args: id, priority, run_at (ms), metadata {text, hashes, version}; answer: state or {'~'}
--@include lib/job
local job = job_load(args.id)
if not job then return {'!', 'NOT_FOUND', 'There is no such job.'} end
if job.s ~= 'w' and job.s ~= 'd' then
  return {'!', job.s == 'x' and 'JOB_CANCELLED' or job.s == 'a' and 'JOB_ACTIVE' or 'JOB_ENDED',
    'Only a job that waits can be changed; this one is ' .. STATE_NAMES[job.s] .. '.'}
end
if args.metadata and args.metadata[3] ~= job:number('v') then return commit({'~'}) end
local queue = queue_load(job.q)
if args.metadata then set_metadata(job, args.metadata[1], args.metadata[2]) end
if args.priority then
  job:set('p', args.priority ~= 0 and args.priority or false)
  if job.s == 'w' then enqueue(queue, job.k, args.priority, job.n) end     -- moves it; a key keeps its turn
end
if args.run_at then
  if job.pc then
    job:set('tr', args.run_at)
  elseif args.run_at > now then
    if job.s == 'w' then dequeue(queue, job.k, job.n) end
    wait_until(job, queue, 'postpone', args.run_at)
  elseif job.s == 'd' then
    call('ZREM', P .. 'due', 'd' .. job.id)
    wait_in_ring(job, queue, 'promote')
  end
end
job:save()
refill_touched()
return commit(job.s)
