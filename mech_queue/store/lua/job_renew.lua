-- Heartbeats: renew leases.
--   args: leases list of {id, token or nil}, lease (ms) or nil: as it was taken
--   answer: per lease {'ok', lease end} | {'cancelled'} | {'lost'} | {'missing'}
--@allow-oom
--@include lib/job
local answers = {}
for i, held in ipairs(args.leases) do
  local job = job_load(held[1])
  local own = job and ((held[2] and held[2] ~= '' and held[2] == job.l) or ((not held[2] or held[2] == '') and not job.h))
  if not job then
    answers[i] = {'missing'}
  elseif job.s == 'x' and (own or not job.l) then
    answers[i] = {'cancelled'}
  elseif job.s ~= 'a' or not own then
    answers[i] = {'lost'}
  else
    if held[2] and held[2] ~= '' then job:set('h', '1') end
    answers[i] = {'ok', int(lease(job, args.lease or job:number('m')))}
    job:save()
  end
end
return commit(answers)
