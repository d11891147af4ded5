-- Keep a new subscription and file it in the index.
--   args: id (16 bytes), body, sealed, active, letters, places, fields (lib/subscription); answer: 1
--   run twice with the same id it changes nothing
--@include lib/subscription
local record = P .. 'sub:' .. args.id
if call('EXISTS', record) == 1 then return {0, 1} end
call('ZADD', P .. 'subs', 0, args.id)
call('HSET', record, 'body', args.body, 'sealed', args.sealed, 'version', '1', 'active', args.active and '1' or '0')
if args.active and #args.places > 0 then subscription_file(P, args.id, args.letters, args.places, args.fields) end
return commit(1)
