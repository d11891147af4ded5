-- What a reader gets of one job: {id, fields of j in order, blob, x as pairs, lease end or '', attempts of its queue or ''}
--@include lib/job
local function view(id, lean)
  local fields = call('HMGET', P .. 'j:' .. id, unpack(FIELDS))
  if not fields[1] then return nil end
  for i = 1, #FIELDS do fields[i] = fields[i] or '' end
  local late_fields = call('HGETALL', P .. 'x:' .. id)
  local ends = fields[2] == 'a' and call('ZSCORE', P .. 'act', id) or ''
  return {id, fields, call('GET', P .. 'd:' .. id) or '', late_fields, ends, queue_load(fields[1]).attempts or ''}
end
