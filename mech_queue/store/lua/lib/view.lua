-- What a reader gets of one job: {id, j as pairs, blob, x as pairs, lease end or '', attempts of its queue or ''}
local queue_attempts = {}
local function attempts_in(queue)
  local key = P .. 'q:' .. queue
  if not queue_attempts[key] then queue_attempts[key] = call('HGET', key, 'attempts') or default_attempts or '' end
  return queue_attempts[key]
end

local function view(id)
  local fields, queue, state = call('HGETALL', P .. 'j:' .. id), nil, nil
  for at = 1, #fields, 2 do
    if fields[at] == 'q' then queue = fields[at + 1] elseif fields[at] == 's' then state = fields[at + 1] end
  end
  if not queue then return nil end
  local ends = state == 'a' and call('ZSCORE', P .. 'act', id) or ''
  return {id, fields, call('GET', P .. 'd:' .. id) or '', call('HGETALL', P .. 'x:' .. id), ends, attempts_in(queue)}
end
