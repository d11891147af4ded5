-- Settings of a queue (creates it). args: queue, set {field = text}, clear {fields}, steps {due kinds to file}; answer: 1
--@include lib/job
local queue = queue_load(args.queue)
queue_create(queue)
for field, value in pairs(args.set or {}) do call('HSET', queue.key, field, value) end
if args.clear and #args.clear > 0 then call('HDEL', queue.key, unpack(args.clear)) end
local rate = false
for _, field in ipairs({'rate_max', 'rate_per'}) do
  if args.set and args.set[field] then rate = true end
  for _, cleared in ipairs(args.clear or {}) do if cleared == field then rate = true end end
end
if rate then call('UNLINK', P .. 'rl:' .. args.queue) call('HDEL', queue.key, 'rate_used') end   -- its window starts anew
for _, kind in ipairs(args.steps or {}) do due_at('due', now, kind .. args.queue) end
queues = {}
queue = queue_load(args.queue)
refill_touched()
return commit(1)
