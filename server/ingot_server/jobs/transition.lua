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
--   ingot:trail:<job id>     list    serialized Jobs, oldest first: the last revision of every state
--                                    and stage the job has left
--   ingot:active:<media id>  string  id of the one job that is not ended and makes this media
--   ingot:deadlines          zset    ids of all jobs that are not ended, by the time at which somebody
--                                    has to look after them: a lease runs out, a message counts as lost
--   ingot:jobs               zset    ids of all jobs, all of score 0: ordered by id, so by age
--   ingot:expiring           zset    ids of ended jobs, by the time their record ends
--   ingot:request:<id>       hash    job_id, fingerprint: what a request_id was used for
--   ingot:requests:<job id>  set     the request ids that led to the job
-- Channel
--   ingot:jobs               every new record, serialized
--
-- Keys of jobs that have not ended never expire. The end sets the time to live of all a job has, but
-- its members of the sorted sets: each later end removes some that are past it.
--
-- ARGV: the operation, the job's id, then names and values:
--   create   change record revision ended ttl deadline media_id request_id fingerprint
--            -> created, record | existing, record | reused, job id
--   change   change record revision ended ttl deadline next_token milestone; conditions, each left out
--            when not asked for: expected (revision), token, overdue, due; also losses, delay
--            -> done, record | gone | lost | early | stale
--   renew    token deadline -> done | gone | lost
--   resend   interval limit -> done, record | gone | early
--   overdue  limit -> the job ids past their deadline, longest past first
--   forget   -> done: a job without a record leaves the sorted sets
-- A change that comes a second time, because the answer to the first was lost, is answered alike.

local JOB, TRAIL, ACTIVE = 'ingot:job:', 'ingot:trail:', 'ingot:active:'
local DEADLINES, JOBS, EXPIRING = 'ingot:deadlines', 'ingot:jobs', 'ingot:expiring'
local REQUEST, REQUESTS = 'ingot:request:', 'ingot:requests:'
local CHANNEL = 'ingot:jobs'
local TRAIL_LENGTH, SWEPT_AT_ONCE = 64, 16

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

local function finish(media_id)
  redis.call('ZREM', DEADLINES, id)
  if media_id ~= '' and redis.call('GET', ACTIVE .. media_id) == id then
    redis.call('DEL', ACTIVE .. media_id)
  end
  redis.call('PEXPIRE', JOB .. id, arg.ttl)
  redis.call('PEXPIRE', TRAIL .. id, arg.ttl)
  redis.call('PEXPIRE', REQUESTS .. id, arg.ttl)
  for _, request in ipairs(redis.call('SMEMBERS', REQUESTS .. id)) do
    redis.call('PEXPIRE', REQUEST .. request, arg.ttl)
  end
  local past = redis.call('ZRANGEBYSCORE', EXPIRING, '-inf', time(now), 'LIMIT', 0, SWEPT_AT_ONCE)
  for _, expired in ipairs(past) do
    forget(expired)
  end
  redis.call('ZADD', EXPIRING, time(now + arg.ttl), id)
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
      remember_request(active)
      return { 'existing', field(active, 'record') }
    end
    redis.call('SET', ACTIVE .. media_id, id)
  end
  redis.call('HSET', JOB .. id, 'record', arg.record, 'revision', arg.revision, 'ended', arg.ended,
    'media_id', media_id, 'token', '', 'losses', 0, 'sends', 0, 'due', 0, 'change', arg.change)
  redis.call('ZADD', JOBS, 0, id)
  remember_request(id)
  if arg.ended == '0' then
    look_after(arg.deadline)
  else
    finish('')
  end
  redis.call('PUBLISH', CHANNEL, arg.record)
  return { 'created', arg.record }
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
  if arg.expected and arg.expected ~= revision then
    return { 'stale' }
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
  if arg.ended == '1' then
    finish(media_id)
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

local operations = {
  create = create,
  change = change,
  renew = renew,
  resend = resend,
  overdue = function()
    return redis.call('ZRANGEBYSCORE', DEADLINES, '-inf', time(now), 'LIMIT', 0, arg.limit)
  end,
  forget = function()
    if redis.call('EXISTS', JOB .. id) == 0 then
      forget(id)
    end
    return { 'done' }
  end,
}

return operations[operation]()
