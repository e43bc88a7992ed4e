-- The first part of every script of this folder: its arguments and the time.
--
-- KEYS: what all keys begin with, and what all channels begin with. In the documentation of the keys,
-- both are `ingot:`.
-- ARGV: the operation, the id of a job or the name of what it is about, then pairs of an argument's name
-- and value.

local PREFIX = KEYS[1]
local JOB = PREFIX .. 'job:'

local operation, id = ARGV[1], ARGV[2]
local arg = {}
for i = 3, #ARGV, 2 do
  arg[ARGV[i]] = ARGV[i + 1]
end

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- Redis converts a Lua number to text with 14 digits only, so times are formatted here.
local function time(milliseconds)
  return string.format('%.0f', milliseconds)
end

local function field(job_id, name)
  return redis.call('HGET', JOB .. job_id, name)
end
