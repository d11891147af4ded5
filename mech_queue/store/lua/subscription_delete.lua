-- Forget a subscription; its deliveries that still wait end as cancelled, from a due entry.
--   args: id, field (6 bytes: its deliveries in the index of application `~`); answer: 1
--@allow-oom
--@include lib/subscription
if call('EXISTS', P .. 'sub:' .. args.id) == 0 then return {'!', 'NOT_FOUND', 'There is no such subscription.'} end
subscription_unfile(P, args.id)
call('ZREM', P .. 'subs', args.id)
call('DEL', P .. 'sub:' .. args.id)
call('ZADD', S .. '~:due', NOW, 'e' .. args.field)
call('ZADD', S .. 'next', 'LT', NOW, '~')
return commit(1)
