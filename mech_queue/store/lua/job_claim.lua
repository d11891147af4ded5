-- Take the next jobs.
--   args and answer, packed: see lib/claim
--@include lib/claim
local answer = claim()
remember_worker()
refill_queues()
return commit(cmsgpack.pack(answer))
