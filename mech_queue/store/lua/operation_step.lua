-- Book one step of a bulk operation, or file a new one; compare-and-set on its cursor, so that replicas book once.
--   <P>op:<id> hash: action, filter, cursor, done, failed, state running|finished, created, ended
--   args: id, create {field = text} | before, after (cursors), done, failed, finished 0|1; answer: 1 booked, 0 somebody else did
--@allow-oom
--@include lib/base
local key = P .. 'op:' .. args.id
if args.create then
  for field, value in pairs(args.create) do call('HSET', key, field, value) end
  call('HSET', key, 'state', 'running', 'cursor', '', 'done', 0, 'failed', 0, 'created', NOW,
    'before', int(now + 1))                         -- also what came in this very ms
  call('EXPIRE', key, 604800)
  due_at('due', now, 'o' .. args.id)
  return commit(1)
end
if call('HGET', key, 'state') ~= 'running' or call('HGET', key, 'cursor') ~= args.before then return commit(0) end
call('HINCRBY', key, 'done', args.done)
call('HINCRBY', key, 'failed', args.failed)
call('HSET', key, 'cursor', args.after)
if args.finished == 1 then
  call('HSET', key, 'state', 'finished', 'ended', NOW)
  call('ZREM', P .. 'due', 'o' .. args.id)
else
  due_at('due', now, 'o' .. args.id)
end
return commit(1)
