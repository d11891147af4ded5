-- Mark an application as deleted: from now on no key of it opens anything. Its data goes from a due entry, ten
-- seconds later, when every process has forgotten the keys it knew (they are remembered for five).
--   args: field (6 bytes: its deliveries in the index of application `~`); answer: 1
--@allow-oom
local about = call('HMGET', P .. 'about', 'version', 'deleted')
if not about[1] or about[2] then return {'!', 'NOT_FOUND', 'There is no such application.'} end
call('HSET', P .. 'about', 'deleted', NOW)
due_at('due', now + 10000, 'W')
call('ZADD', S .. '~:due', int(now + 10000), 'V' .. args.field)
call('ZADD', S .. 'next', 'LT', int(now + 10000), '~')
return commit(1)
