-- Write a schedule, if nobody else did since it was read.
--   args: id, version (as read; 0: a new one), fields {name -> text}, clear {names}, keep (the due time stays), due ms or nil,
--     most (schedules per application)
--   answer: the new version; -1 when it was changed meanwhile: read it again
--   <P>sch zset: created ms -> id   <P>sch:<id> hash: format, name, cron | every | at, timezone, start, end, limit, overlap,
--     catch_up, active, job (JSON as sent), queue, spec (msgpack, for lib/submit), created, updated, version,
--     due, runs, skipped, last (due time of the last run), last_job, last_outcome
--   <P>schedules zset: due ms -> id
local key = P .. 'sch:' .. args.id
local version = tonumber(call('HGET', key, 'version') or nil)
if args.version == 0 then
  if version then return {0, version} end           -- the same call, repeated
  if call('HEXISTS', P .. 'about', 'deleted') == 1 then return {'!', 'NOT_FOUND', 'There is no such application.'} end
  if call('ZCARD', P .. 'sch') >= args.most then
    return {'!', 'LIMIT_REACHED', 'The application has ' .. int(args.most) .. ' schedules, the most there may be.'}
  end
  call('ZADD', P .. 'sch', NOW, args.id)
  call('HSET', key, 'format', '1', 'created', NOW, 'version', '0')
elseif not version then
  return {'!', 'NOT_FOUND', 'There is no such schedule.'}
elseif version ~= args.version then
  return {0, -1}
end
for name, value in pairs(args.fields) do call('HSET', key, name, value) end
for _, name in ipairs(args.clear) do call('HDEL', key, name) end
call('HSET', key, 'updated', NOW)
if args.due then
  call('HSET', key, 'due', int(args.due))
  due_at('schedules', args.due, args.id)
elseif not args.keep then
  call('HDEL', key, 'due')
  call('ZREM', P .. 'schedules', args.id)
end
return commit(call('HINCRBY', key, 'version', 1))
