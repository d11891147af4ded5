-- A subscription: its record, its places in the index, its health. `prefix`: of its application (not always P).
--   <prefix>subs zset, score 0: 16-byte ids (UUIDv7, so by age)
--   <prefix>sub:<id> hash: body JSON, sealed encrypted JSON, version, active 0|1, filed 0|1, letters of its event types,
--     places msgpack list of letter, queue, field; triggers, triggered ms, ok ms of the last success, fails in a row,
--     failing since ms, reason why the service disabled it
--   <prefix>match:<type letter>:<queue or *> hash: field (6 bytes, of one metadata condition) -> packed ids
--   <prefix>app hash: sub<letter> filed subscriptions per event type, subscribed their bit mask
-- What is disabled by the service stays filed: its events are recorded as skipped and can be replayed.
local SUBSCRIPTION_FIELDS = {'body', 'sealed', 'version', 'active', 'triggers', 'triggered', 'ok', 'fails', 'failing', 'reason'}

-- the mask from its counters; `app` is what this script knows of the application with `prefix` P
local function subscribed_count(prefix, letters, by)
  local mask = tonumber(call('HGET', prefix .. 'app', 'subscribed') or 0)
  for _, event_type in pairs(EVENTS) do
    local letter, bit_of = event_type[1], event_type[2]
    if string.find(letters, letter, 1, true) then
      local left = call('HINCRBY', prefix .. 'app', 'sub' .. letter, by)
      mask = left > 0 and bit.bor(mask, bit_of) or bit.band(mask, bit.bnot(bit_of))
    end
  end
  call('HSET', prefix .. 'app', 'subscribed', int(mask))
end

local function subscription_unfile(prefix, id)
  local record = prefix .. 'sub:' .. id
  local v = call('HMGET', record, 'filed', 'places', 'letters')
  if v[1] ~= '1' then return end
  local places = cmsgpack.unpack(v[2])
  for i = 1, #places, 3 do
    local key, field = prefix .. 'match:' .. places[i] .. ':' .. places[i + 1], places[i + 2]
    local packed = call('HGET', key, field) or ''
    local at = string.find(packed, id, 1, true)
    while at and at % 16 ~= 1 do at = string.find(packed, id, at + 1, true) end
    if at then packed = string.sub(packed, 1, at - 1) .. string.sub(packed, at + 16) end
    if packed == '' then call('HDEL', key, field) elseif at then call('HSET', key, field, packed) end
  end
  subscribed_count(prefix, v[3], -1)
  call('HSET', record, 'filed', '0')
end

-- `places`: list of letter, queue; `fields`: conditions it may stand under, best first. In each place the one that
-- fewest others stand under is taken, so that a condition which all share does not make an event meet them all
local function subscription_file(prefix, id, letters, places, fields)
  local filed = {}
  for i = 1, #places, 2 do
    local key = prefix .. 'match:' .. places[i] .. ':' .. places[i + 1]
    local best, fewest = fields[1], HUGE
    for _, field in ipairs(#fields > 1 and fields or {}) do
      local size = call('HSTRLEN', key, field)
      if size < fewest then best, fewest = field, size end
    end
    call('HSET', key, best, (call('HGET', key, best) or '') .. id)
    filed[#filed + 1] = places[i]
    filed[#filed + 1] = places[i + 1]
    filed[#filed + 1] = best
  end
  subscribed_count(prefix, letters, 1)
  call('HSET', prefix .. 'sub:' .. id, 'filed', '1', 'letters', letters, 'places', cmsgpack.pack(filed))
end

-- packed ids of those that may want an event, to be compared exactly. `hashes`: six bytes for each searchable field of
-- its job. What no place has is remembered: most events of a batch ask in the same two
local no_place = {}
local function subscription_candidates(prefix, letter, queue, hashes)
  local found = {}
  for _, name in ipairs({queue, '*'}) do
    local key = prefix .. 'match:' .. letter .. ':' .. name
    if no_place[key] == nil then no_place[key] = call('EXISTS', key) == 0 end
    if not no_place[key] then
      local fields = {'\0\0\0\0\0\0'}                  -- of those without condition
      for at = 1, #hashes, 6 do fields[#fields + 1] = string.sub(hashes, at, at + 5) end
      for _, ids in ipairs(call('HMGET', key, unpack(fields))) do found[#found + 1] = ids or '' end
    end
  end
  return table.concat(found)
end

-- a delivery was made for it
local function subscription_triggered(prefix, id)
  local record = prefix .. 'sub:' .. id
  if call('EXISTS', record) == 0 then return end
  call('HINCRBY', record, 'triggers', 1)
  call('HSET', record, 'triggered', NOW)
end

-- an attempt went well, or not; answers failures in a row and since when (ms), or nil when there is no such subscription
local function subscription_result(prefix, id, well)
  local record = prefix .. 'sub:' .. id
  if call('EXISTS', record) == 0 then return nil end
  if well then
    call('HSET', record, 'ok', NOW)
    call('HDEL', record, 'fails', 'failing')
    return 0, now
  end
  call('HSETNX', record, 'failing', NOW)
  return call('HINCRBY', record, 'fails', 1), tonumber(call('HGET', record, 'failing'))
end

-- the service switches it off; `reason`: gone (410) or failing. False when it was off already
local function subscription_disable(prefix, id, reason)
  local record = prefix .. 'sub:' .. id
  if call('HGET', record, 'active') ~= '1' then return false end
  call('HSET', record, 'active', '0', 'reason', reason, 'disabled', NOW)
  call('HINCRBY', record, 'version', 1)
  count(prefix .. 'hooks', 'off:' .. reason, 1)
  return true
end

-- deleted, or its receiver said that it wants no more
local function subscription_gone(prefix, id)
  local v = call('HMGET', prefix .. 'sub:' .. id, 'active', 'reason')
  return not v[1] or (v[1] ~= '1' and v[2] == 'gone')
end
