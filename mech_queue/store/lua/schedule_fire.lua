-- A schedule's time has come: book it and create its job, in one step, so that any number of schedulers neither lose
-- nor double a run. Or run it now, by hand; that moves no time and counts for no limit.
--   args: id, version and expected (due ms) as read, due (ms that this run stands for), next ms or nil (it was the last),
--     act 'run' | 'miss' | 'refuse', reason, manual, job (id of the new job, 16 bytes)
--   answer: {outcome, job id or ''}; outcomes: s submitted, d deduplicated, k skipped (the last job is unfinished),
--     f refused, m missed, '' nothing done: another scheduler was here, or the schedule was changed
--   events: created
--   <P>runs:<id> list of msgpack {1, due ms, ms, outcome, job id, reason, 1 by hand}, newest first, 100 kept
--@include lib/submit
local key = P .. 'sch:' .. args.id
local v = call('HMGET', key, 'version', 'due', 'active', 'overlap', 'limit', 'last_job', 'spec')
if not v[1] or call('HEXISTS', P .. 'about', 'deleted') == 1 then
  if args.manual then return {'!', 'NOT_FOUND', 'There is no such schedule.'} end
  return {0, {'', ''}}
end
local outcome, id, reason = 's', '', args.reason or ''

local function unfinished(job_id)
  local job = job_id and job_load(job_id)
  return job and (job.s == 'w' or job.s == 'd' or job.s == 'a')
end

local function run()
  local spec = cmsgpack.unpack(v[7])
  spec.id = args.job
  local answer = submit(spec)
  if answer[1] == '!' then
    outcome, reason = 'f', answer[3]
    return answer
  end
  outcome, id = answer[1] == 1 and 'd' or 's', answer[2]
  call('HSET', key, 'last_job', id)
end

local function remember(due)
  call('HSET', key, 'last', int(due), 'last_outcome', outcome)
  call('LPUSH', P .. 'runs:' .. args.id,
    cmsgpack.pack({1, due, now, outcome, id, reason, args.manual and 1 or 0}))
  call('LTRIM', P .. 'runs:' .. args.id, 0, 99)
end

if args.manual then
  if call('EXISTS', P .. 'j:' .. args.job) == 1 then return {0, {'s', args.job}} end    -- the same call, repeated
  local refused = run()
  if refused then return refused end
  remember(now)
  refill_touched()
  return commit({outcome, id})
end

local due = tonumber(v[2] or nil)
if v[3] ~= '1' or tonumber(v[1]) ~= args.version or due ~= args.expected or due > now then return {0, {'', ''}} end
if args.act ~= 'run' then
  outcome = args.act == 'miss' and 'm' or 'f'
elseif v[4] == 'skip' and unfinished(v[6]) then
  outcome, reason = 'k', 'the job of the run before is unfinished'
  call('HINCRBY', key, 'skipped', 1)
else
  run()
end
local runs = tonumber(call('HINCRBY', key, 'runs', (outcome == 's' or outcome == 'd') and 1 or 0))
local limit = tonumber(v[5] or nil)
if args.next and not (limit and runs >= limit) then
  call('HSET', key, 'due', int(args.next))
  due_at('schedules', args.next, args.id)
else
  call('HDEL', key, 'due')
  call('ZREM', P .. 'schedules', args.id)
end
remember(args.due)
refill_touched()
return commit({outcome, id})
