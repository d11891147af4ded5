-- Replace the webhooks of an unfinished job. args: id, webhooks (JSON), mask, version; answer: 1 or {'~'}
--@include lib/job
local job = job_load(args.id)
if not job then return {'!', 'NOT_FOUND', 'There is no such job.'} end
if job.s == 'c' or job.s == 'f' or job.s == 'x' then
  return {'!', 'JOB_ENDED', 'The job has ended already; its webhooks cannot be changed.'}
end
if args.version ~= job:number('v') then return commit({'~'}) end
late(job, 'w', args.webhooks)
job:set('hk', args.mask > 0 and args.mask or false)
job:set('v', job:number('v') + 1)
job:save()
return commit(1)
