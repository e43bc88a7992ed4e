-- What becomes of the deliveries of webhooks. One call of this script is one atomic operation. This is its last
-- part, after arguments.lua and webhooks.lua, which document its arguments and the deliveries.
--
-- Further keys.
--   ingot:webhook-sending:<host>    zset    ids of deliveries that workers send to a host now, scored by when
--                                           they count as lost
--   ingot:webhook-gone:<hash>       string  expires; the receiver at the URL with this SHA-1 answered 410
--   ingot:webhook-ended             zset    ids of deliveries that have ended, scored by when they are forgotten
--   ingot:webhook-group:<group>     set     ids of the pending deliveries that the object `webhooks/<group>` has
--   ingot:webhook-groups            set     all groups that are known
--   ingot:webhook-empty             set     those without a pending delivery: they can be removed
--   ingot:webhook-writing           string  expires; deliveries were written to the bucket lately
--   ingot:webhook-check             string  expires; the groups in the bucket were lately compared with Redis
--
-- ARGV: the operation, the id of a delivery or a group, then names and values. Durations are in milliseconds.
--   take       limit lease per_host ttl url -> ids of deliveries that the caller must send now; `url` is that of
--              the settings
--   sent       run outcome delay problem keep ttl url; outcome: delivered | failed | gone -> done | stale
--   replay     url -> done | unknown
--   unwritten  limit age interval -> ids of deliveries to write to the bucket
--   note       deliveries; the id is that of a group which the bucket has -> done | gone: one is not known
--   unknown    groups -> those that are not known
--   restore    url body create_time [trace] -> done: makes a delivery again, unless it is known
--   empty      -> groups to remove from the bucket
--   removed    groups -> done

local SENDING, GONE = PREFIX .. 'webhook-sending:', PREFIX .. 'webhook-gone:'
local ENDED = PREFIX .. 'webhook-ended'
local GROUP, GROUPS, EMPTY = PREFIX .. 'webhook-group:', PREFIX .. 'webhook-groups', PREFIX .. 'webhook-empty'
local WRITING = PREFIX .. 'webhook-writing'
local DELIVERED, FAILED = '2', '3'
local LOOKED_AT, FORGOTTEN_AT_ONCE = 256, 100
-- When a host that gets as many requests as it may is looked at again.
local BUSY = 500

local function delivery_field(delivery, name)
  return redis.call('HGET', DELIVERY .. delivery, name)
end

local function gone_key(url)
  return GONE .. redis.sha1hex(url ~= '' and url or arg.url)
end

local function leave_group(delivery)
  local group = delivery_field(delivery, 'group')
  if group then
    redis.call('HDEL', DELIVERY .. delivery, 'group')
    redis.call('SREM', GROUP .. group, delivery)
    if redis.call('EXISTS', GROUP .. group) == 0 then
      redis.call('SADD', EMPTY, group)
    end
  end
end

local function finish(delivery, state, keep, problem)
  set_delivery_state(delivery, state)
  redis.call('HSET', DELIVERY .. delivery, 'end_time', time(now), 'problem', problem)
  redis.call('ZREM', WEBHOOK_DUE, delivery)
  redis.call('ZREM', WEBHOOK_UNWRITTEN, delivery)
  redis.call('ZADD', ENDED, time(now + keep), delivery)
  leave_group(delivery)
end

local function forget_ended()
  local old = redis.call('ZRANGEBYSCORE', ENDED, '-inf', time(now), 'LIMIT', 0, FORGOTTEN_AT_ONCE)
  for _, delivery in ipairs(old) do
    redis.call('ZREM', DELIVERIES .. ':' .. (delivery_field(delivery, 'state') or ''), delivery)
    redis.call('ZREM', DELIVERIES, delivery)
    redis.call('ZREM', ENDED, delivery)
    redis.call('DEL', DELIVERY .. delivery)
  end
end

-- Whether the host has room for one more request, which it then takes.
local function begin_sending(host, delivery)
  redis.call('ZREMRANGEBYSCORE', SENDING .. host, '-inf', time(now))
  if redis.call('ZCARD', SENDING .. host) >= tonumber(arg.per_host) then
    return false
  end
  redis.call('ZADD', SENDING .. host, time(now + arg.lease), delivery)
  redis.call('PEXPIRE', SENDING .. host, arg.lease)
  return true
end

local function take()
  forget_ended()
  local taken = {}
  local due = redis.call('ZRANGEBYSCORE', WEBHOOK_DUE, '-inf', time(now), 'LIMIT', 0, LOOKED_AT)
  for _, delivery in ipairs(due) do
    if #taken >= tonumber(arg.limit) then
      break
    end
    local url, host = unpack(redis.call('HMGET', DELIVERY .. delivery, 'url', 'host'))
    if not url then
      redis.call('ZREM', WEBHOOK_DUE, delivery)
    elseif redis.call('EXISTS', gone_key(url)) == 1 then
      finish(delivery, FAILED, arg.ttl, 'The receiver has answered 410 (Gone) before.')
    elseif begin_sending(host, delivery) then
      redis.call('HINCRBY', DELIVERY .. delivery, 'attempts', 1)
      redis.call('HINCRBY', DELIVERY .. delivery, 'run', 1)
      redis.call('ZADD', WEBHOOK_DUE, time(now + arg.lease), delivery)
      taken[#taken + 1] = delivery
    else
      redis.call('ZADD', WEBHOOK_DUE, time(now + BUSY), delivery)
    end
  end
  return taken
end

local function sent()
  local stored = redis.call('HMGET', DELIVERY .. id, 'state', 'run', 'url', 'host', 'since')
  local state, run, url, host, since = unpack(stored)
  -- Another worker has taken it meanwhile, or it was replayed. That it was accepted counts all the same.
  if state ~= PENDING or (run ~= arg.run and arg.outcome ~= 'delivered') then
    return { 'stale' }
  end
  redis.call('ZREM', SENDING .. host, id)
  local due = now + (arg.delay or 0)
  if arg.outcome == 'delivered' then
    finish(id, DELIVERED, arg.keep, '')
  elseif arg.outcome == 'gone' then
    redis.call('SET', gone_key(url), '', 'PX', arg.ttl)
    finish(id, FAILED, arg.ttl, arg.problem)
  elseif due > since + arg.ttl then
    finish(id, FAILED, arg.ttl, arg.problem)
  else
    redis.call('HSET', DELIVERY .. id, 'problem', arg.problem, 'due', time(due))
    redis.call('ZADD', WEBHOOK_DUE, time(due), id)
  end
  return { 'done' }
end

local function replay()
  local state, url = unpack(redis.call('HMGET', DELIVERY .. id, 'state', 'url'))
  if not state then
    return { 'unknown' }
  end
  redis.call('DEL', gone_key(url))
  redis.call('HSET', DELIVERY .. id, 'since', time(now), 'attempts', 0, 'due', time(now))
  redis.call('HINCRBY', DELIVERY .. id, 'run', 1)
  redis.call('HDEL', DELIVERY .. id, 'end_time')
  redis.call('ZADD', WEBHOOK_DUE, time(now), id)
  redis.call('ZREM', ENDED, id)
  if state ~= PENDING then
    set_delivery_state(id, PENDING)
    redis.call('ZADD', WEBHOOK_UNWRITTEN, time(now), id)
  end
  return { 'done' }
end

local function unwritten()
  if not redis.call('SET', WRITING, '', 'NX', 'PX', arg.interval) then
    return {}
  end
  return redis.call('ZRANGEBYSCORE', WEBHOOK_UNWRITTEN, '-inf', time(now - arg.age),
    'LIMIT', 0, arg.limit)
end

local function note()
  for delivery in string.gmatch(arg.deliveries, '%S+') do
    if redis.call('EXISTS', DELIVERY .. delivery) == 0 then
      return { 'gone' }
    end
  end
  redis.call('SADD', GROUPS, id)
  for delivery in string.gmatch(arg.deliveries, '%S+') do
    if delivery_field(delivery, 'state') == PENDING and not delivery_field(delivery, 'group') then
      redis.call('HSET', DELIVERY .. delivery, 'group', id)
      redis.call('SADD', GROUP .. id, delivery)
      redis.call('ZREM', WEBHOOK_UNWRITTEN, delivery)
    end
  end
  if redis.call('EXISTS', GROUP .. id) == 0 then
    redis.call('SADD', EMPTY, id)
  end
  return { 'done' }
end

local operations = {
  take = take,
  sent = sent,
  replay = replay,
  unwritten = unwritten,
  note = note,
  unknown = function()
    local unknown = {}
    for group in string.gmatch(arg.groups, '%S+') do
      if redis.call('SISMEMBER', GROUPS, group) == 0 then
        unknown[#unknown + 1] = group
      end
    end
    return unknown
  end,
  restore = function()
    make_delivery(id, arg.url, arg.body, arg.create_time, arg.trace)
    return { 'done' }
  end,
  empty = function()
    return redis.call('SMEMBERS', EMPTY)
  end,
  removed = function()
    for group in string.gmatch(arg.groups, '%S+') do
      redis.call('SREM', EMPTY, group)
      redis.call('SREM', GROUPS, group)
    end
    return { 'done' }
  end,
}

return operations[operation]()
