-- Append lines to a job's log; the newest 1,000 are kept. args: id, lines; answer: how many are kept
--   <P>logs:<id> list, oldest first: msgpack {ms, line}
--@include lib/job
local job = job_load(args.id)
if not job then return {'!', 'NOT_FOUND', 'There is no such job.'} end
local key = P .. 'logs:' .. args.id
for _, line in ipairs(args.lines) do call('RPUSH', key, cmsgpack.pack({now, line})) end
call('LTRIM', key, -1000, -1)
return commit(call('LLEN', key))
