-- Replace the record of a key that is still there (its expiry, when another key takes over), or revoke it.
--   args: id, record JSON or nil (revoke); answer: the record before
--@allow-oom
local before = call('HGET', P .. 'keys', args.id)
if not before then return {'!', 'NOT_FOUND', 'There is no such key.'} end
if args.record then call('HSET', P .. 'keys', args.id, args.record) else call('HDEL', P .. 'keys', args.id) end
return commit(before)
