-- End unfinished jobs at once, in any unfinished state. args.ids; answer: per job its state, or {'!', …}
--   events: cancelled
--@allow-oom
--@include lib/job
local answers = {}
for i, id in ipairs(args.ids) do
  local job = job_load(id)
  if not job then
    answers[i] = {'!', 'NOT_FOUND', 'There is no such job.'}
  elseif job.s == 'x' then
    answers[i] = 'x'
  elseif job.s == 'c' or job.s == 'f' then
    answers[i] = {'!', 'JOB_ENDED', 'The job has ended already, as ' .. STATE_NAMES[job.s] .. '.'}
  else
    local queue = queue_load(job.q)
    if job.s == 'a' then
      attempt_over(job, 'cancelled')
      leave_active(job, queue)
    else
      leave_waiting(job, queue)
    end
    finish(job, queue, 'cancel', 'x', 'cancelled')
    job:save()
    answers[i] = 'x'
  end
end
refill_touched()
return commit(answers)
