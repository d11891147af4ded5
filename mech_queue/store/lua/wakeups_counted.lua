-- Another broker carries the wake-ups (meta `wakeups` = count): correct the number believed to be on their way.
--   args: queue (of application `~`: webhooks or subscriptions), and either
--     arrived: so many reached a worker, or
--     waiting: so many wait in the broker, with the generation known when it was asked; ignored if that has moved since
--   answer: 1 corrected, 0 ignored
--@allow-oom
--@include lib/delivery
local matching = APP_ID == '~' and args.queue == 'subscriptions'
local queue = queue_load(args.queue)
if meta[6] ~= 'count' or not (matching or queue.known) then return commit(0) end
local outstanding = args.waiting
if args.arrived then
  outstanding = math.max(0, queue.outstanding - args.arrived)
elseif tonumber(call('HGET', queue.key, 'generation') or 0) ~= args.generation then
  return commit(0)
end
call('HSET', queue.key, 'outstanding', int(outstanding))
call('HINCRBY', queue.key, 'generation', 1)
queue.outstanding = outstanding
if matching then
  local waiting = call('LLEN', S .. 'pending')
  if waiting > 0 then wake_stage('subscriptions', 'mech_queue.match', waiting) end
  return commit(1)
end
local head = args.waiting and call('ZRANGE', queue.ring, 0, 0)[1]
if head then refill_hoarded(queue, head, outstanding) else refill(queue) end
return commit(1)
