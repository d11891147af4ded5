-- A worker that waits for wake-ups is there, though it claims nothing. args: kind, worker, queues (≤ 100); answer: 1
--@allow-oom
--@include lib/queue
local known = false
for _, name in ipairs(args.queues) do
  if queue_load(name).known then
    known = true
    call('HSET', P .. 'q:' .. name, 'seen', NOW)
    call('ZADD', P .. 'workers', NOW, args.kind .. '\0' .. args.worker .. '\0' .. name)
  end
end
if not known then return {0, 1} end                 -- nobody uses them yet, or the application is gone
return commit(1)
