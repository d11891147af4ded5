-- Ended jobs wait again, with fresh attempts. args.ids; answer: per job its state, {'!', …}, or
--   {'~'} while its last events are unmatched: their receivers are to see the result they are about (ask again)
--   events: retrying
--@include lib/job
local answers = {}
for i, id in ipairs(args.ids) do
  local job = job_load(id)
  if not job then
    answers[i] = {'!', 'NOT_FOUND', 'There is no such job.'}
  elseif job.s ~= 'c' and job.s ~= 'f' and job.s ~= 'x' then
    answers[i] = {'!', 'CONFLICT', 'Only an ended job can be retried; this one is ' .. STATE_NAMES[job.s] .. '.'}
  elseif job:number('u') > 0 then
    answers[i] = {'~'}
  else
    if job.s ~= 'x' and job.ts then attempt_over(job, STATE_NAMES[job.s], call('HGET', P .. 'x:' .. id, 'e')) end
    remember_attempt(job, {'retried', now})
    for _, field in ipairs({'f', 'b', 'un', 'l', 'h', 'w', 'te', 'ts', 'th', 'g', 'pc', 'r'}) do job:set(field, false) end
    call('HDEL', P .. 'x:' .. id, 'e', 'c', 'r', 'p')
    call('ZREM', P .. 'end', id)
    if job:option('dedupe') then call('SET', P .. 'dedupe:' .. job:option('dedupe'), id, 'NX') end
    wait_in_ring(job, queue_load(job.q), 'retry')
    event(job, 'retrying')
    job:save()
    answers[i] = 'w'
  end
end
refill_touched()
return commit(answers)
