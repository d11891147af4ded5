-- Remove ended or waiting jobs. args.ids; answer: per job 'gone', or {'!', …}
--   a job with unmatched events disappears as soon as they are matched
--@allow-oom
--@include lib/job
local answers = {}
for i, id in ipairs(args.ids) do
  local job = job_load(id)
  if not job then
    answers[i] = {'!', 'NOT_FOUND', 'There is no such job.'}
  elseif job.s == 'a' then
    answers[i] = {'!', 'JOB_ACTIVE', 'The job is running; cancel it first.'}
  else
    local queue = queue_load(job.q)
    if job.s == 'w' or job.s == 'd' then
      leave_waiting(job, queue)
      if job:number('u') > 0 then
        finish(job, queue, 'cancel', 'x')
        job:save()
      end
    end
    if call('EXISTS', P .. 'children:' .. id) == 1 then due_at('due', now, 'c' .. id) end
    if job:number('u') > 0 then due_at('end', now, id) else remove(job) end
    answers[i] = 'gone'
  end
end
refill_touched()
return commit(answers)
