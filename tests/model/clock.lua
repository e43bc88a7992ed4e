-- Put around the scripts of the product. The time is the model's, keys expire by it, and the result is that of
-- the script and all keys that it has written, with what they contain now.
--
-- KEYS[1]: what all keys begin with. KEYS[3]: the model's time in milliseconds.
--   model:expiry    zset    keys, scored by when they expire

local server, EXPIRY, MODEL_NOW = redis, 'model:expiry', tonumber(KEYS[3])
local redis, written = {}, {}

local READS = {}
for _, command in ipairs({
  'EXISTS', 'GET', 'HEXISTS', 'HGET', 'HGETALL', 'HKEYS', 'HLEN', 'HMGET', 'HVALS', 'INFO', 'PUBLISH', 'SCARD',
  'SISMEMBER', 'SMEMBERS', 'ZCARD', 'ZCOUNT', 'ZRANGE', 'ZRANGEBYSCORE', 'ZRANK', 'ZREVRANGE', 'ZSCORE',
}) do
  READS[command] = true
end

local JOB_FIELDS = {
  'revision', 'ended', 'token', 'run', 'losses', 'state', 'priority', 'single_flight_key', 'permit', 'parents',
  'shared', 'waits_for_children', 'follows',
}
local function hash(key)
  return server.call('HGETALL', key)
end
local function zset(key)
  return server.call('ZRANGE', key, 0, -1, 'WITHSCORES')
end
local function set(key)
  return server.call('SMEMBERS', key)
end
local function ignored()
  return false
end
-- How to read a key, by the first word of its name.
local READ = {
  job = function(key)
    local values = server.call('HMGET', key, unpack(JOB_FIELDS))
    if not values[1] then
      return {}
    end
    for i, value in ipairs(values) do
      values[i] = value ~= '0' and value or ''
    end
    return values
  end,
  held = hash, load = hash, turns = hash, slots = hash, ['slots-left'] = hash, source = hash, request = hash,
  entries = hash, ['child-counts'] = hash, ['child-progress'] = hash, ['caller-jobs'] = hash, askers = hash,
  ['tenant-jobs'] = hash, ['job-tenants'] = hash,
  ['caller-queued'] = hash, ['running-jobs'] = hash, ['running-limits'] = hash,
  ready = zset, ['slots-until'] = zset, deadlines = zset, ['source-permits'] = zset, ['source-waiting'] = zset,
  ['source-blocked'] = zset, undispatched = zset, followers = zset, expiring = zset, jobs = zset,
  state = set,
  active = function(key) return server.call('GET', key) end,
  -- The history, the journal and the broker's queues are no part of the model.
  history = ignored, changes = ignored, removed = ignored, trail = ignored, requests = ignored, queue = ignored,
  ['ended-flight'] = ignored, journal = ignored, ['journal-due'] = ignored, ['journal-partial'] = ignored,
}

function redis.call(command, key, ...)
  if READS[command] then
    return server.call(command, key, ...)
  elseif command == 'TIME' then
    return { math.floor(MODEL_NOW / 1000), (MODEL_NOW % 1000) * 1000 }
  elseif command == 'PEXPIRE' then
    if server.call('EXISTS', key) == 1 then
      server.call('ZADD', EXPIRY, string.format('%.0f', MODEL_NOW + ...), key)
    end
    return
  elseif command == 'PERSIST' then
    return server.call('ZREM', EXPIRY, key)
  end
  written[key] = true
  if command == 'SET' then
    server.call('ZREM', EXPIRY, key)
  elseif command == 'DEL' then
    server.call('ZREM', EXPIRY, key, ...)
    for _, other in ipairs({ ... }) do
      written[other] = true
    end
  end
  return server.call(command, key, ...)
end

for _, key in ipairs(server.call('ZRANGEBYSCORE', EXPIRY, '-inf', KEYS[3])) do
  redis.call('DEL', key)
end

local function contents()
  local found, first = {}, #KEYS[1] + 1
  for key in pairs(written) do
    local name = string.sub(key, first)
    local read = READ[string.match(name, '^[^:]+')]
    if not read then
      error('nobody has documented the key ' .. key)
    end
    found[#found + 1] = name
    found[#found + 1] = read(key)
  end
  return found
end

local function product()
