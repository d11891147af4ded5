-- Change an application, if nobody else did since it was read. What is absent stays.
--   args: version (as read), name, settings, sealed, limits {field -> number}, unlimited list of fields
--   answer: the new version; -1 when it was changed meanwhile: read it again
--@include lib/queue
local about = call('HMGET', P .. 'about', 'version', 'deleted')
if not about[1] or about[2] then return {'!', 'NOT_FOUND', 'There is no such application.'} end
if tonumber(about[1]) ~= args.version then return {0, -1} end
for _, field in ipairs({'name', 'settings', 'sealed'}) do
  if args[field] then call('HSET', P .. 'about', field, args[field]) end
end
for field, number in pairs(args.limits or {}) do call('HSET', APP, field, int(number)) end
for _, field in ipairs(args.unlimited or {}) do call('HDEL', APP, field) end
call('HSET', P .. 'about', 'updated', NOW)
local version = call('HINCRBY', P .. 'about', 'version', 1)
if args.limits then                                 -- more slots than before: their queues are woken
  app.max = args.limits.max or HUGE
  refill_touched()
end
return commit(version)
