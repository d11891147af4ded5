-- Forget an empty queue. args: queue; answer: 1 or {'!', …}
--@include lib/job
local queue = queue_load(args.queue)
if not queue.known then return {'!', 'NOT_FOUND', 'There is no such queue.'} end
for letter in string.gmatch('wdacfx', '.') do
  if tonumber(call('HGET', queue.key, 'n' .. letter) or 0) > 0 then
    return {'!', 'CONFLICT', 'The queue still has jobs; purge it, or wait until they are removed.'}
  end
end
call('SREM', P .. 'queues', args.queue)
call('ZREM', P .. 'ab', args.queue)
call('ZREM', P .. 'due', 's' .. args.queue, 'r' .. args.queue, 'g' .. args.queue, 'k' .. args.queue, 'p' .. args.queue)
call('UNLINK', queue.key, queue.ring, queue.turns, queue.running, P .. 'rl:' .. args.queue, P .. 'm:' .. args.queue)
if meta[6] ~= 'count' then call('DEL', broker_list(args.queue)) end
local held = drop_held(queue)
queues = {}
if held then wake_application() end                              -- the slot it held goes to the next in turn
return commit(1)
