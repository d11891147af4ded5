-- Take the next jobs.
--   args and answer: see lib/claim
--@include lib/claim
local answer = claim()
remember_worker()
refill_queues()
return commit(answer)
