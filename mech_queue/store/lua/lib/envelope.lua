-- Always first: the caller's envelope.
--   S shard prefix   P application prefix   args
--   <S>meta hash: protocol range and service-wide defaults
local call = redis.call
local S, APP_ID = KEYS[1], ARGV[2]
local P = S .. APP_ID .. ':'
local SHARD = string.match(S, '{s(%d+)}')
local args = cmsgpack.unpack(ARGV[4])
local HUGE = 9007199254740991

local meta = call('HMGET', S .. 'meta', 'protocol_min', 'protocol_max', 'keep_completed', 'keep_failed', 'keep_cancelled', 'wakeups',
  'attempts', 'backoff_delay')
if not meta[1] then
  do return {'!', 'STORE_STOPPED', 'The store is not initialised: start the service once, or check its address.'} end
end
if tonumber(ARGV[1]) < tonumber(meta[1]) or tonumber(ARGV[1]) > tonumber(meta[2]) then
  do return {'!', 'STORE_STOPPED', 'This store speaks protocol ' .. meta[1] .. ' to ' .. meta[2] ..
    ', this library speaks ' .. ARGV[1] .. ': install the mech-queue release that the service runs.'} end
end

local function int(n) return string.format('%d', n) end
local function seq8(n) return struct.pack('>I8', n) end
local function from_seq8(s) return struct.unpack('>I8', s) end

-- for jobs and queues that do not say; 1 means that nobody has said: a native task may ask for more (`allowed` in fail)
local default_attempts = tonumber(meta[7] or 1)
if default_attempts == 1 then default_attempts = nil end
