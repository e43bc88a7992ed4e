-- The one way in which anything about a job changes in Redis: one call of this script, all or nothing.
--
-- Keys (times are milliseconds of Redis' own clock)
--   ingot:job:<job id>       hash    record      the serialized Job
--                                    revision    Job.revision
--                                    ended       1 once the job has ended, else 0
--                                    media_id    the media whose slot the job took; empty if none
--                                    token       fencing token of the lease; empty when nobody has it
--                                    losses      how many workers the job has lost
--                                    sends       how often its message was sent again since it queued
--                                    due         when a worker may take it at the earliest
--                                    change      id of the last change
--                                    parents     ids of the jobs this one is a part of, each with a
--                                                blank behind it
--                                    shared      1 once somebody else asked for this child as well
--                                    waits       1 while it waits for its children: RUNNING, and
--                                                nobody has it
--                                    pulse       when its sums may be written next
--   ingot:trail:<job id>     list    serialized Jobs, oldest first: the last revision of every state
--                                    and stage the job has left
--   ingot:active:<media id>  string  id of the one job that is not ended and makes this media
--   ingot:deadlines          zset    ids of all jobs that are not ended, by the time at which somebody
--                                    has to look after them: a lease runs out, a message counts as lost
--   ingot:jobs               zset    ids of all jobs, all of score 0: ordered by id, so by age
--   ingot:expiring           zset    ids of ended jobs, by the time their record ends
--   ingot:request:<id>       hash    job_id, fingerprint: what a request_id was used for
--   ingot:requests:<job id>  set     the request ids that led to the job
--   ingot:entries:<job id>   hash    its children: entry -> job id
--   ingot:family:<job id>    hash    how they stand: total, succeeded, failed, cancelled, cached, bytes
--                                    (received by those that ended), version (of all this)
--   ingot:moving:<job id>    hash    child that runs -> bytes done, bytes a second, fraction
--   ingot:unsent:<job id>    zset    children no worker was told of yet, by the order of their entries
-- Channel
--   ingot:jobs               every new record, serialized
--
-- A child that has ended lives at least as long as its parents. A parent that was cancelled stands
-- among the deadlines until its children are cancelled too (`settle`).
--
-- Keys of jobs that have not ended never expire. The end sets the time to live of all a job has, but
-- its members of the sorted sets: each later end removes some that are past it.
--
-- ARGV: the operation, the job's id, then names and values:
--   create   change record revision ended ttl deadline media_id request_id fingerprint; of a child
--            also outcome cached bytes parent parent_token entry order
--            -> created, record | existing, record | reused, job id | orphaned | circular
--   change   change record revision ended ttl deadline next_token milestone outcome cached bytes
--            measure; conditions, each left out when not asked for: expected (revision), token,
--            overdue, due, unshared; also losses, delay, waits, pulse, version, unasked (request ids
--            that led to the job are free again)
--            -> done, record | gone | lost | early | stale
--            with media_id the job also leaves its slot for that media's -> taken, job id: another has it
--   renew    token deadline -> done | gone | lost
--   resend   interval limit -> done, record | gone | early
--   overdue  limit -> the job ids past their deadline, longest past first
--   forget   -> done: a job without a record leaves the sorted sets
--   tally    -> names and values of family, list of the values of moving, list of the children
--   rest     deadline pulse version -> done: a waiting job whose sums have not changed
--   next     window deadline -> the children of a waiting job that a worker is to be told of now
--   settle   -> done: the children of a cancelled job are cancelled
--   disown   token ttl -> done, lost: the job goes on as one that never had children
-- A change that comes a second time, because the answer to the first was lost, is answered alike.

local JOB, TRAIL, ACTIVE = 'ingot:job:', 'ingot:trail:', 'ingot:active:'
local DEADLINES, JOBS, EXPIRING = 'ingot:deadlines', 'ingot:jobs', 'ingot:expiring'
local REQUEST, REQUESTS = 'ingot:request:', 'ingot:requests:'
local ENTRIES, FAMILY = 'ingot:entries:', 'ingot:family:'
local MOVING, UNSENT = 'ingot:moving:', 'ingot:unsent:'
local CHANNEL = 'ingot:jobs'
local TRAIL_LENGTH, SWEPT_AT_ONCE = 64, 16
-- How much longer than its parent a child lives, in milliseconds.
local OUTLIVES = 60000

local operation, id = ARGV[1], ARGV[2]
local arg = {}
for i = 3, #ARGV, 2 do
  arg[ARGV[i]] = ARGV[i + 1]
end

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- Redis turns a Lua number into text by itself with 14 digits only, so times are formatted here.
local function time(milliseconds)
  return string.format('%.0f', milliseconds)
end

local function field(job_id, name)
  return redis.call('HGET', JOB .. job_id, name)
end

local function forget(job_id)
  redis.call('ZREM', DEADLINES, job_id)
  redis.call('ZREM', JOBS, job_id)
  redis.call('ZREM', EXPIRING, job_id)
end

local function look_after(milliseconds)
  redis.call('ZADD', DEADLINES, time(now + milliseconds), id)
end

local function parents_of(job_id)
  return string.gmatch(field(job_id, 'parents') or '', '%S+')
end

local function has_living_parent(job_id)
  for parent in parents_of(job_id) do
    if field(parent, 'ended') == '0' or has_living_parent(parent) then
      return true
    end
  end
  return false
end

local function expire(job_id, ttl)
  redis.call('PEXPIRE', JOB .. job_id, ttl)
  redis.call('PEXPIRE', TRAIL .. job_id, ttl)
  redis.call('PEXPIRE', REQUESTS .. job_id, ttl)
  for _, request in ipairs(redis.call('SMEMBERS', REQUESTS .. job_id)) do
    redis.call('PEXPIRE', REQUEST .. request, ttl)
  end
  redis.call('ZADD', EXPIRING, time(now + ttl), job_id)
  for _, child in ipairs(redis.call('HVALS', ENTRIES .. job_id)) do
    if field(child, 'ended') == '1' and not has_living_parent(child) then
      expire(child, ttl + OUTLIVES)
    end
  end
  redis.call('PEXPIRE', ENTRIES .. job_id, ttl + OUTLIVES)
  redis.call('PEXPIRE', FAMILY .. job_id, ttl)
end

local function finish(media_id)
  redis.call('ZREM', DEADLINES, id)
  if media_id ~= '' and redis.call('GET', ACTIVE .. media_id) == id then
    redis.call('DEL', ACTIVE .. media_id)
  end
  local past = redis.call('ZRANGEBYSCORE', EXPIRING, '-inf', time(now), 'LIMIT', 0, SWEPT_AT_ONCE)
  for _, expired in ipairs(past) do
    forget(expired)
  end
  -- Children of a job that ended early go on alone: somebody must send them.
  for _, child in ipairs(redis.call('ZRANGE', UNSENT .. id, 0, -1)) do
    redis.call('ZADD', DEADLINES, time(now), child)
  end
  redis.call('DEL', UNSENT .. id, MOVING .. id)
  if arg.outcome == 'cancelled' and redis.call('EXISTS', ENTRIES .. id) == 1 then
    look_after(0)
  end
  if not has_living_parent(id) then
    expire(id, tonumber(arg.ttl))
  end
end

-- Makes a waiting parent due, as soon as its sums may be written again.
local function wake(parent)
  local stored = redis.call('HMGET', JOB .. parent, 'waits', 'pulse')
  local deadline = redis.call('ZSCORE', DEADLINES, parent)
  if stored[1] == '1' and deadline then
    local wanted = math.max(now, tonumber(stored[2]))
    if tonumber(deadline) > wanted then
      redis.call('ZADD', DEADLINES, time(wanted), parent)
    end
  end
end

local function tell(parent)
  local family = FAMILY .. parent
  if arg.ended == '1' then
    redis.call('HDEL', MOVING .. parent, id)
    redis.call('ZREM', UNSENT .. parent, id)
    redis.call('HINCRBY', family, arg.outcome, 1)
    redis.call('HINCRBY', family, 'cached', arg.cached)
    redis.call('HINCRBY', family, 'bytes', arg.bytes)
  elseif arg.measure and arg.measure ~= '' then
    redis.call('HSET', MOVING .. parent, id, arg.measure)
  elseif redis.call('HDEL', MOVING .. parent, id) == 0 then
    return
  end
  redis.call('HINCRBY', family, 'version', 1)
  wake(parent)
end

local function tell_parents()
  for parent in parents_of(id) do
    if field(parent, 'ended') == '0' then
      tell(parent)
    end
  end
end

local function descends(job_id, ancestor)
  if job_id == ancestor then
    return true
  end
  for parent in parents_of(job_id) do
    if descends(parent, ancestor) then
      return true
    end
  end
  return false
end

-- Whether the job became a child of arg.parent; it was one already if another entry led to it.
local function join(job_id)
  redis.call('HSET', ENTRIES .. arg.parent, arg.entry, job_id)
  local parents = field(job_id, 'parents') or ''
  if string.find(parents, arg.parent, 1, true) then
    return false
  end
  redis.call('HSET', JOB .. job_id, 'parents', parents .. arg.parent .. ' ')
  redis.call('HINCRBY', FAMILY .. arg.parent, 'total', 1)
  redis.call('HINCRBY', FAMILY .. arg.parent, 'version', 1)
  return true
end

-- Somebody else asks for a job: if it is a child that waits for its turn, its turn is now.
local function share(job_id)
  local waited = false
  for parent in parents_of(job_id) do
    redis.call('HSET', JOB .. job_id, 'shared', 1)
    waited = redis.call('ZREM', UNSENT .. parent, job_id) == 1 or waited
  end
  if waited then
    redis.call('ZADD', DEADLINES, time(now), job_id)
  end
end

local function remember_request(job_id)
  if arg.request_id ~= '' then
    local key = REQUEST .. arg.request_id
    redis.call('HSET', key, 'job_id', job_id, 'fingerprint', arg.fingerprint)
    redis.call('PERSIST', key)
    redis.call('SADD', REQUESTS .. job_id, arg.request_id)
  end
end

local function create()
  if field(id, 'change') == arg.change then
    return { 'created', field(id, 'record') }
  end
  if arg.parent then
    if field(arg.parent, 'token') ~= arg.parent_token then
      return { 'orphaned' }
    end
    local child = redis.call('HGET', ENTRIES .. arg.parent, arg.entry)
    local record = child and field(child, 'record')
    if record then
      return { 'existing', record }
    end
  end
  if arg.request_id ~= '' then
    local used = redis.call('HMGET', REQUEST .. arg.request_id, 'job_id', 'fingerprint')
    local record = used[1] and field(used[1], 'record')
    if record then
      if used[2] ~= arg.fingerprint then
        return { 'reused', used[1] }
      end
      return { 'existing', record }
    end
  end
  local media_id = ''
  if arg.ended == '0' then
    media_id = arg.media_id
    local active = redis.call('GET', ACTIVE .. media_id)
    if active and field(active, 'ended') == '0' then
      if arg.parent and descends(arg.parent, active) then
        return { 'circular' }
      end
      if not arg.parent or join(active) then
        share(active)
      end
      remember_request(active)
      return { 'existing', field(active, 'record') }
    end
    redis.call('SET', ACTIVE .. media_id, id)
  end
  redis.call('HSET', JOB .. id, 'record', arg.record, 'revision', arg.revision, 'ended', arg.ended,
    'media_id', media_id, 'token', '', 'losses', 0, 'sends', 0, 'due', 0, 'change', arg.change)
  redis.call('ZADD', JOBS, 0, id)
  remember_request(id)
  if arg.parent then
    join(id)
  end
  if arg.ended == '0' then
    look_after(arg.deadline)
    if arg.parent then
      redis.call('ZADD', UNSENT .. arg.parent, arg.order, id)
    end
  else
    tell_parents()
    finish('')
  end
  redis.call('PUBLISH', CHANNEL, arg.record)
  return { 'created', arg.record }
end

-- Looks after a waiting job when its sums change, which they may have done since they were read.
local function rest()
  redis.call('HSET', JOB .. id, 'pulse', time(now + arg.pulse))
  if redis.call('HGET', FAMILY .. id, 'version') == arg.version then
    look_after(arg.deadline)
  else
    look_after(arg.pulse)
  end
end

-- Moves the job to the slot of arg.media_id; the id of the job that is in it already, else nil.
local function move(media_id)
  local active = redis.call('GET', ACTIVE .. arg.media_id)
  if active and active ~= id and field(active, 'ended') == '0' then
    return active
  end
  if media_id ~= '' and redis.call('GET', ACTIVE .. media_id) == id then
    redis.call('DEL', ACTIVE .. media_id)
  end
  redis.call('SET', ACTIVE .. arg.media_id, id)
  redis.call('HSET', JOB .. id, 'media_id', arg.media_id)
  return nil
end

local function is_overdue()
  local deadline = redis.call('ZSCORE', DEADLINES, id)
  return deadline and tonumber(deadline) <= now
end

local function change()
  local stored = redis.call('HMGET', JOB .. id,
    'record', 'revision', 'token', 'due', 'change', 'media_id')
  local record, revision, token, due, last, media_id = unpack(stored)
  if not record then
    forget(id)
    return { 'gone' }
  end
  if last == arg.change then
    return { 'done', record }
  end
  if arg.token and arg.token ~= token then
    return { 'lost' }
  end
  if (arg.overdue and not is_overdue()) or (arg.due and tonumber(due) > now) then
    return { 'early' }
  end
  if arg.unshared and field(id, 'shared') == '1' then
    return { 'lost' }
  end
  if arg.expected and arg.expected ~= revision then
    return { 'stale' }
  end
  if arg.media_id then
    local active = move(media_id)
    if active then
      return { 'taken', active }
    end
  end
  if arg.milestone == '1' then
    redis.call('RPUSH', TRAIL .. id, record)
    redis.call('LTRIM', TRAIL .. id, -TRAIL_LENGTH, -1)
  end
  redis.call('HSET', JOB .. id, 'record', arg.record, 'revision', arg.revision, 'ended', arg.ended,
    'token', arg.next_token, 'sends', 0, 'due', time(now + (arg.delay or 0)), 'change', arg.change)
  if arg.losses then
    redis.call('HSET', JOB .. id, 'losses', arg.losses)
  end
  redis.call('HSET', JOB .. id, 'waits', arg.ended == '0' and arg.waits or 0)
  if arg.unasked then
    for _, request in ipairs(redis.call('SMEMBERS', REQUESTS .. id)) do
      redis.call('DEL', REQUEST .. request)
    end
    redis.call('DEL', REQUESTS .. id)
  end
  tell_parents()
  if arg.ended == '1' then
    finish(media_id)
  elseif arg.waits then
    rest()
  else
    look_after(arg.deadline)
  end
  redis.call('PUBLISH', CHANNEL, arg.record)
  return { 'done', arg.record }
end

local function renew()
  local token = field(id, 'token')
  if not token then
    return { 'gone' }
  end
  if token ~= arg.token then
    return { 'lost' }
  end
  look_after(arg.deadline)
  return { 'done' }
end

local function resend()
  local stored = redis.call('HMGET', JOB .. id, 'record', 'token', 'ended', 'sends')
  local record, token, ended, sends = unpack(stored)
  if not record then
    forget(id)
    return { 'gone' }
  end
  if token ~= '' or ended == '1' or not is_overdue() then
    return { 'early' }
  end
  redis.call('HINCRBY', JOB .. id, 'sends', 1)
  -- A job that waits in a long queue is sent again ever more rarely, or its messages were the queue.
  look_after(math.min(arg.interval * 2 ^ math.min(tonumber(sends) + 1, 30), tonumber(arg.limit)))
  return { 'done', record }
end

-- At most arg.window children are with the workers; the others wait here.
local function next_children()
  if field(id, 'waits') ~= '1' then
    return {}
  end
  local stood = redis.call('HMGET', FAMILY .. id, 'total', 'succeeded', 'failed', 'cancelled')
  local under_way = (stood[1] or 0) - (stood[2] or 0) - (stood[3] or 0) - (stood[4] or 0)
    - redis.call('ZCARD', UNSENT .. id)
  local free = tonumber(arg.window) - under_way
  if free <= 0 then
    return {}
  end
  local children = {}
  for _, child in ipairs(redis.call('ZRANGE', UNSENT .. id, 0, free - 1)) do
    redis.call('ZREM', UNSENT .. id, child)
    redis.call('ZADD', DEADLINES, time(now + arg.deadline), child)
    children[#children + 1] = child
  end
  return children
end

local function disown()
  if field(id, 'token') ~= arg.token then
    return { 'lost' }
  end
  for _, child in ipairs(redis.call('HVALS', ENTRIES .. id)) do
    local parents = field(child, 'parents')
    if parents then
      redis.call('HSET', JOB .. child, 'parents', (string.gsub(parents, id .. ' ', '')))
      if field(child, 'ended') == '1' and not has_living_parent(child) then
        expire(child, tonumber(arg.ttl))
      end
    end
  end
  redis.call('DEL', ENTRIES .. id, FAMILY .. id, MOVING .. id, UNSENT .. id)
  return { 'done' }
end

local operations = {
  create = create,
  change = change,
  renew = renew,
  resend = resend,
  overdue = function()
    return redis.call('ZRANGEBYSCORE', DEADLINES, '-inf', time(now), 'LIMIT', 0, arg.limit)
  end,
  tally = function()
    return {
      redis.call('HGETALL', FAMILY .. id),
      redis.call('HVALS', MOVING .. id),
      redis.call('HVALS', ENTRIES .. id),
    }
  end,
  rest = function()
    if field(id, 'waits') == '1' then
      rest()
    end
    return { 'done' }
  end,
  next = next_children,
  disown = disown,
  settle = function()
    if field(id, 'ended') ~= '0' then
      redis.call('ZREM', DEADLINES, id)
    end
    return { 'done' }
  end,
  forget = function()
    if redis.call('EXISTS', JOB .. id) == 0 then
      forget(id)
    end
    return { 'done' }
  end,
}

return operations[operation]()
