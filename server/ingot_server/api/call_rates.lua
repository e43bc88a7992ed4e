-- The calls that one caller may still make, as a token bucket that all API servers take from.
--
-- KEYS: what all keys begin with, and what all channels begin with.
--   ingot:call-rate:<caller>        hash    tokens      calls that may be made at `at`
--                                           at          time in milliseconds
-- ARGV: the caller, calls per second, how many are wanted, how many are given back
-- Returns how many are granted, and the milliseconds until there is another one.

local key = KEYS[1] .. 'call-rate:' .. ARGV[1]
local rate, wanted, returned = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local stored = redis.call('HMGET', key, 'tokens', 'at')
local tokens = tonumber(stored[1]) or rate
local passed = math.max(0, now - (tonumber(stored[2]) or now))
tokens = math.min(rate, tokens + returned + passed * rate / 1000)
local granted = math.min(wanted, math.floor(tokens))
tokens = tokens - granted
redis.call('HSET', key, 'tokens', string.format('%.6f', tokens), 'at', string.format('%.0f', now))
-- By then it is full again.
redis.call('PEXPIRE', key, 2000)
return { granted, math.ceil(math.max(0, 1 - tokens) * 1000 / rate) }
