-- Replace a subscription's record, if nobody else did since it was read, and file it anew.
--   args: id, version (as read), body, sealed, active, letters, places, fields
--   answer: the new version; -1 when it was changed meanwhile: read it again
--   switched on again it starts with a clean health: no failures, no reason
--@include lib/subscription
local record = P .. 'sub:' .. args.id
local before = call('HMGET', record, 'version', 'active')
if not before[1] then return {'!', 'NOT_FOUND', 'There is no such subscription.'} end
if tonumber(before[1]) ~= args.version then return {0, -1} end
subscription_unfile(P, args.id)
call('HSET', record, 'body', args.body, 'sealed', args.sealed, 'active', args.active and '1' or '0')
if args.active and before[2] ~= '1' then call('HDEL', record, 'fails', 'failing', 'reason', 'disabled') end
local disabled = call('HEXISTS', record, 'reason') == 1
if (args.active or disabled) and #args.places > 0 then
  subscription_file(P, args.id, args.letters, args.places, args.fields)
end
return commit(call('HINCRBY', record, 'version', 1))
