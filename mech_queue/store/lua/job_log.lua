-- Append lines to a job's log; the newest 1,000 are kept. args: id, lines; answer: how many are kept
--   <P>logs:<id> list, oldest first: msgpack {ms, line}
--@include lib/job
local job = job_load(args.id)
if not job then return {'!', 'NOT_FOUND', 'There is no such job.'} end
local key = P .. 'logs:' .. args.id
for _, line in ipairs(args.lines) do call('RPUSH', key, cmsgpack.pack({now, line})) end
local over = call('LLEN', key) - 1000
if over > 0 then
  call('LTRIM', key, over, -1)
  call('HINCRBY', P .. 'x:' .. args.id, 'ld', over)            -- lines dropped, so that a place in the log stays one
end
return commit(call('LLEN', key))
