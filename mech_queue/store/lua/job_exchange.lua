-- A worker's ended job for its next one: a report, and a claim of the slot that it freed.
-- A refused report gets none: the worker may be about to stop, and have told of its job already.
--   args: report, see lib/report, and those of lib/claim; answer, packed: {that of the report, that of the claim}
--@allow-oom
--@include lib/report
--@include lib/claim
local reported = settle(args.report)
if touched then wake_application() end                  -- the queue that waits longest for the slot comes first
local next_jobs = reported[1] == '!' and {0, {}} or claim(touched)
refill_queues()
return commit(cmsgpack.pack({reported, next_jobs}))
