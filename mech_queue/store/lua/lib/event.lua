-- An event: one per transition, written with it.
--   <P>ev stream of the application, field e   <S>pending list of events that somebody may match
--   an entry of both: msgpack {application, type letter, job id, sequence, ms, attempt, progress or error as JSON or ''}
--@include lib/subscription
local EXTRA_MOST = 16384

local counted                                       -- another broker: wake-ups of the stage, also those of this script
local function wake_stage(stage, task, waiting)
  local list = stage .. '.' .. SHARD
  local want = math.min(math.ceil(waiting / 100), WINDOW)
  if meta[6] == 'count' then
    local key = S .. '~:q:' .. stage
    counted = counted or tonumber(call('HGET', key, 'outstanding') or 0)
    if want > counted then
      push_elsewhere(key, list, want - counted)
      counted = want
    end
    return
  end
  local need = want - call('LLEN', list)
  if need > 0 then push(list, need, {task = task, args = int(tonumber(SHARD)), mq = 'null', queue = list}) end
end

-- whether a webhook of the job names this event, or a subscription may want it: most events end here
local function may_be_wanted(job, letter, bit_of)
  if bit.band(job:number('hk'), bit_of) ~= 0 then return true end
  return bit.band(app.subscribed, bit_of) ~= 0 and subscription_candidates(P, letter, job.q, job.i or '') ~= ''
end

local function event(job, kind, extra)
  if APP_ID == '~' then return end                  -- a delivery is no job that anybody subscribes to
  local letter, bit_of = EVENTS[kind][1], EVENTS[kind][2]
  local sequence = job:number('e') + 1
  job:set('e', sequence)
  extra = extra and #extra <= EXTRA_MOST and extra or ''
  local entry = cmsgpack.pack({APP_ID, letter, job.id, sequence, now, job:number('a'), extra})
  call('XADD', P .. 'ev', 'MAXLEN', '~', 10000, '*', 'e', entry)    -- one field: each costs as much as a small command
  if not may_be_wanted(job, letter, bit_of) then return end
  job:set('u', job:number('u') + 1)
  local waiting = call('RPUSH', S .. 'pending', entry)
  if waiting == 1 then                              -- lost wake-ups and batches are repaired by application `~`
    call('ZADD', S .. '~:due', 'NX', int(now + 500), 'm')
    call('ZADD', S .. 'next', 'LT', int(now + 500), '~')
  end
  wake_stage('subscriptions', 'mech_queue.match', waiting)
end
