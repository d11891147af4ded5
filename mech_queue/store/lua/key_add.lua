-- Give an application one more API key. `mq:keys`, which leads from a key to here, is written after this.
--   args: id, record JSON, most (keys of an application)
--   <P>keys hash: key id -> record JSON {digest (hex), last_four, scopes, name, created, expires}
--   answer: 1
local about = call('HMGET', P .. 'about', 'version', 'deleted')
if not about[1] or about[2] then return {'!', 'NOT_FOUND', 'There is no such application.'} end
if call('HLEN', P .. 'keys') >= args.most then
  return {'!', 'CONFLICT', 'The application has ' .. int(args.most) .. ' keys, the most there may be; revoke one first.'}
end
call('HSET', P .. 'keys', args.id, args.record)
return commit(1)
