-- Subscriptions: a copy of what the bucket has, and when each is checked by whom.
--
-- Keys. All times are milliseconds of Redis' own clock.
--   ingot:subscription:<id>        hash    content   a StoredSubscription without `seen` and `media_ids`
--                                          revision  its revision
--                                          etag      of the object in the bucket
--                                          owner     whose it is, see below
--                                          status    a Subscription with what the last check found out
--                                          taken     its score in `subscriptions-due` since a check began
--   ingot:subscriptions            zset    ids of all, all with score 0: sorted by id, so by time
--   ingot:subscriptions:<owner>    zset    those of one owner, in the same way
--   ingot:subscriptions-due        zset    ids of those that are not paused, scored by when they are due
--   ingot:subscription-check:<id>  string  the token of the check that runs. It expires with its lease
--   ingot:subscription-gone:<id>   string  exists for an hour after it was deleted
--   ingot:subscriptions-restored   string  exists while Redis has all that the bucket has
--   ingot:subscriptions-compared   string  exists for a minute after one process compared the two
--   ingot:subscription-request:<request id>  string  the id that the call gave to its subscription, for a day
--
-- Invariants. A copy is never replaced by that of an earlier revision. A subscription has one check at a
-- time. It stays in `subscriptions-due` meanwhile, so a check whose process was killed begins again.

local SUBSCRIPTION, SUBSCRIPTIONS = PREFIX .. 'subscription:', PREFIX .. 'subscriptions'
local SUBSCRIPTIONS_DUE = PREFIX .. 'subscriptions-due'
local CHECK, GONE = PREFIX .. 'subscription-check:', PREFIX .. 'subscription-gone:'
local RESTORED = PREFIX .. 'subscriptions-restored'
local GONE_MILLISECONDS = 3600000
-- How soon one is looked at again that is due while its check runs.
local BUSY_MILLISECONDS = 1000

local function make_due(subscription, at)
  redis.call('ZADD', SUBSCRIPTIONS_DUE, time(at), subscription)
end

local operations = {}

-- The bucket has this version, which `is_new` if it was just created. `delay` says when it is due: '' leaves that as it is, unless it is unknown.
function operations.put()
  if arg.is_new == '1' then
    redis.call('DEL', GONE .. id)
  elseif redis.call('EXISTS', GONE .. id) == 1 then
    return {'gone'}
  end
  local known = redis.call('HGET', SUBSCRIPTION .. id, 'revision')
  if known and tonumber(known) > tonumber(arg.revision) then
    return {'later'}
  end
  redis.call('HSET', SUBSCRIPTION .. id, 'content', arg.content, 'revision', arg.revision, 'etag', arg.etag,
    'owner', arg.owner)
  redis.call('ZADD', SUBSCRIPTIONS, 0, id)
  redis.call('ZADD', SUBSCRIPTIONS .. ':' .. arg.owner, 0, id)
  if arg.paused == '1' then
    redis.call('ZREM', SUBSCRIPTIONS_DUE, id)
  elseif arg.delay ~= '' then
    make_due(id, now + arg.delay)
  elseif not redis.call('ZSCORE', SUBSCRIPTIONS_DUE, id) then
    make_due(id, now + arg.unknown_delay)
  end
  return {'done'}
end

-- The bucket no longer has it.
function operations.remove()
  local owner = redis.call('HGET', SUBSCRIPTION .. id, 'owner')
  if owner then
    redis.call('ZREM', SUBSCRIPTIONS .. ':' .. owner, id)
  end
  redis.call('ZREM', SUBSCRIPTIONS, id)
  redis.call('ZREM', SUBSCRIPTIONS_DUE, id)
  redis.call('DEL', SUBSCRIPTION .. id)
  redis.call('SET', GONE .. id, '', 'PX', GONE_MILLISECONDS)
  return {'done'}
end

-- Takes subscriptions that are due, the longest first: they are the caller's for `lease`.
function operations.take()
  local taken = {}
  for _, subscription in ipairs(redis.call('ZRANGEBYSCORE', SUBSCRIPTIONS_DUE, '-inf', time(now), 'LIMIT', 0,
    arg.limit)) do
    if redis.call('SET', CHECK .. subscription, arg.token, 'NX', 'PX', arg.lease) then
      make_due(subscription, now + arg.lease)
      redis.call('HSET', SUBSCRIPTION .. subscription, 'taken', time(now + arg.lease))
      table.insert(taken, subscription)
    else
      make_due(subscription, now + BUSY_MILLISECONDS)
    end
  end
  return taken
end

local function is_unchanged_since_taken()
  local due = redis.call('ZSCORE', SUBSCRIPTIONS_DUE, id)
  return due and tonumber(due) == tonumber(redis.call('HGET', SUBSCRIPTION .. id, 'taken') or 0)
end

-- The check goes on.
function operations.renew()
  if redis.call('GET', CHECK .. id) ~= arg.token then
    return {'lost'}
  end
  redis.call('PEXPIRE', CHECK .. id, arg.lease)
  if is_unchanged_since_taken() then
    make_due(id, now + arg.lease)
    redis.call('HSET', SUBSCRIPTION .. id, 'taken', time(now + arg.lease))
  end
  return {'done'}
end

-- The check has ended. It is due in `delay`, unless somebody has asked for another check meanwhile.
function operations.finish()
  if redis.call('GET', CHECK .. id) ~= arg.token then
    return {'lost'}
  end
  redis.call('DEL', CHECK .. id)
  if redis.call('EXISTS', SUBSCRIPTION .. id) == 0 then
    return {'gone'}
  end
  redis.call('HSET', SUBSCRIPTION .. id, 'status', arg.status)
  if is_unchanged_since_taken() then
    make_due(id, now + arg.delay)
  end
  return {'done'}
end

-- The check was given up: another process may begin it at once.
function operations.release()
  if redis.call('GET', CHECK .. id) == arg.token then
    redis.call('DEL', CHECK .. id)
    if redis.call('ZSCORE', SUBSCRIPTIONS_DUE, id) then
      make_due(id, now)
    end
  end
  return {'done'}
end

return operations[operation]()
