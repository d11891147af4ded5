-- Delayed jobs may start now. args.ids; answer: per job its state, or {'!', …}
--@include lib/job
local answers = {}
for i, id in ipairs(args.ids) do
  local job = job_load(id)
  if not job then
    answers[i] = {'!', 'NOT_FOUND', 'There is no such job.'}
  elseif job.s ~= 'd' then
    answers[i] = {'!', 'CONFLICT', 'Only a delayed job can be promoted; this one is ' .. STATE_NAMES[job.s] .. '.'}
  elseif job.pc then
    answers[i] = {'!', 'CONFLICT', 'The job waits for the jobs it depends on.'}
  else
    call('ZREM', P .. 'due', 'd' .. id)
    remember_attempt(job, {'promoted', now})
    wait_in_ring(job, queue_load(job.q), 'promote')
    job:save()
    answers[i] = 'w'
  end
end
refill_touched()
return commit(answers)
