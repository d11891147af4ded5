-- Take the next jobs.
--   args and answer: see lib/claim
--@include lib/claim
local answer = claim()
refill_queues()
return commit(answer)
