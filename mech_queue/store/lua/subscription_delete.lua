-- Forget a subscription; its deliveries that still wait find it gone and end as cancelled.
--   args: id; answer: 1
--@allow-oom
--@include lib/subscription
if call('EXISTS', P .. 'sub:' .. args.id) == 0 then return {'!', 'NOT_FOUND', 'There is no such subscription.'} end
subscription_unfile(P, args.id)
call('ZREM', P .. 'subs', args.id)
call('DEL', P .. 'sub:' .. args.id)
return commit(1)
