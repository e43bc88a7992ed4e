-- The order of all changes of jobs, and the sets of all jobs, so that a reader can continue where it was.
-- An epoch begins with each loss of writes.
--
-- Keys.
--   ingot:job:<job id>              hash    further fields of those in transition.lua:
--                                           sequence    number of the last change, among all jobs
--                                           state       Job.state
--   ingot:history                   hash    epoch       begins with each loss of writes, and grows
--                                           sequence    number of the last change of any job
--                                           run_id      the Redis server of this epoch
--                                           forgotten   number of the last removal that was forgotten
--   ingot:trail:<job id>            list    "sequence Job", oldest first: the last revision of each
--                                           state and stage that the job has left
--   ingot:changes                   zset    ids of all jobs, scored by the numbers of their last changes
--   ingot:removed                   zset    ids of jobs whose records have expired, scored by the numbers
--                                           of their removals; only the latest
--   ingot:jobs:<state>              zset    ids of all jobs in this state, a number of JobState, all with score 0
--   ingot:tenant-jobs:<tenant>      hash    state -> number of the tenant's jobs in it, without those that have none
--   ingot:job-tenants               hash    id of each job of a tenant -> the tenant
--   ingot:jobs                      zset    ids of all jobs, all with score 0: sorted by id, so by age
--   ingot:expiring                  zset    ids of ended jobs, scored by when their records expire
-- Channel
--   ingot:jobs                      "job EPOCH SEQUENCE RECORD" for every new record, and
--                                   "removed EPOCH SEQUENCE ID" for every job that is forgotten

local CHANNEL = KEYS[2] .. 'jobs'
local HISTORY, CHANGES, REMOVED = PREFIX .. 'history', PREFIX .. 'changes', PREFIX .. 'removed'
local REMOVED_LENGTH = 10000
-- Tables, because a script has room for 200 local variables.
local trail, feed = { KEY = PREFIX .. 'trail:', LENGTH = 64 }, {}
local JOBS, EXPIRING = PREFIX .. 'jobs', PREFIX .. 'expiring'
local EXPIRED_PER_END, EXPIRED_PER_SWEEP = 16, 1000
local states = { COUNT = 5, JOBS = PREFIX .. 'jobs:', FORMER = PREFIX .. 'state:' }
-- One table, because a script has room for 200 local variables.
local tenants = { JOBS = PREFIX .. 'tenant-jobs:', OF_JOBS = PREFIX .. 'job-tenants' }
local QUEUED, RUNNING, FAILED, CANCELLED = 1, 2, 4, 5

local function begin_epoch(after)
  local epoch = math.max(now, after + 1)
  redis.call('HSET', HISTORY, 'epoch', time(epoch))
  return epoch
end

local function current_epoch()
  local epoch = redis.call('HGET', HISTORY, 'epoch')
  return epoch and tonumber(epoch) or begin_epoch(0)
end

function feed.publish(kind, sequence, content)
  redis.call('PUBLISH', CHANNEL,
    kind .. ' ' .. time(current_epoch()) .. ' ' .. time(sequence) .. ' ' .. content)
end

function tenants.add(tenant, state, number)
  if redis.call('HINCRBY', tenants.JOBS .. tenant, state, number) == 0 then
    redis.call('HDEL', tenants.JOBS .. tenant, state)
  end
end

-- The job has got into arg.state. A job that was there before it had a tenant is counted from now on.
function tenants.count(former)
  local is_new = arg.tenant and redis.call('HSETNX', tenants.OF_JOBS, id, arg.tenant) == 1
  if arg.tenant and former and not is_new then
    tenants.add(arg.tenant, former, -1)
  end
  if is_new or (arg.tenant and former) then
    tenants.add(arg.tenant, arg.state, 1)
  end
end

function tenants.forget(job_id, state)
  local tenant = redis.call('HGET', tenants.OF_JOBS, job_id)
  if tenant then
    redis.call('HDEL', tenants.OF_JOBS, job_id)
    tenants.add(tenant, state, -1)
  end
end

-- An earlier version of the server has left sets without an order.
function states.adopt()
  local former = {}
  for state = 1, states.COUNT do
    former[state] = states.FORMER .. state
  end
  if redis.call('EXISTS', unpack(former)) == 0 then
    return
  end
  for state, key in ipairs(former) do
    for _, job_id in ipairs(redis.call('SMEMBERS', key)) do
      if redis.call('HGET', JOB .. job_id, 'state') == time(state) then
        redis.call('ZADD', states.JOBS .. state, 0, job_id)
      end
    end
  end
  redis.call('DEL', unpack(former))
end

local function forget(job_id)
  free_slots(job_id)
  wake_followers(job_id)
  redis.call('ZREM', DEADLINES, job_id)
  redis.call('ZREM', JOBS, job_id)
  redis.call('ZREM', EXPIRING, job_id)
  if redis.call('ZREM', CHANGES, job_id) == 0 then
    return
  end
  for state = 1, states.COUNT do
    if redis.call('ZREM', states.JOBS .. state, job_id) == 1 then
      tenants.forget(job_id, state)
    end
  end
  local sequence = redis.call('HINCRBY', HISTORY, 'sequence', 1)
  redis.call('ZADD', REMOVED, time(sequence), job_id)
  if redis.call('ZCARD', REMOVED) > REMOVED_LENGTH then
    local oldest = redis.call('ZPOPMIN', REMOVED)
    redis.call('HSET', HISTORY, 'forgotten', oldest[2])
  end
  feed.publish('removed', sequence, job_id)
end

local function forget_expired(limit)
  local expired = redis.call('ZRANGEBYSCORE', EXPIRING, '-inf', time(now), 'LIMIT', 0, limit)
  for _, job_id in ipairs(expired) do
    if redis.call('EXISTS', JOB .. job_id) == 0 then
      forget(job_id)
    end
  end
end

-- Keeps the last version of a state and stage that the job has left.
function trail.add(sequence, record)
  if redis.call('RPUSH', trail.KEY .. id, sequence .. ' ' .. record) > trail.LENGTH then
    redis.call('LPOP', trail.KEY .. id)
  end
end

-- Numbers a version of the job, publishes it, and returns its number.
function feed.publish_job(record)
  local sequence = time(redis.call('HINCRBY', HISTORY, 'sequence', 1))
  feed.publish('job', sequence, record)
  return sequence
end

-- Numbers the change of a job that was just written, and publishes it.
local function record_change()
  local sequence = feed.publish_job(arg.record)
  redis.call('HSET', JOB .. id, 'sequence', sequence)
  if arg.unlisted ~= '1' then
    redis.call('ZADD', CHANGES, sequence, id)
  end
end

local function count_in_state()
  if arg.unlisted == '1' then
    return
  end
  local state = field(id, 'state')
  if state ~= arg.state then
    if state then
      redis.call('ZREM', states.JOBS .. state, id)
    end
    redis.call('ZADD', states.JOBS .. arg.state, 0, id)
    redis.call('HSET', JOB .. id, 'state', arg.state)
    tenants.count(state)
  end
end

local function is_other_epoch()
  return tonumber(arg.epoch) ~= current_epoch()
end

-- A new epoch begins if this is another server than before, or if it has lost what the caller knows.
local function check_epoch()
  local stored = redis.call('HMGET', HISTORY, 'run_id', 'sequence')
  local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
  local epoch, sequence = current_epoch(), tonumber(stored[2] or 0)
  local known = tonumber(arg.known_epoch or 0)
  if known > epoch or (known == epoch and tonumber(arg.known_sequence) > sequence) then
    epoch = begin_epoch(known)
  elseif stored[1] and stored[1] ~= run_id then
    epoch = begin_epoch(epoch)
  end
  if stored[1] ~= run_id then
    redis.call('HSET', HISTORY, 'run_id', run_id)
  end
  return epoch
end

local function is_restored()
  return redis.call('HGET', HISTORY, 'restored') == time(current_epoch())
end

-- Redis has lost writes, and was not yet compared with the journal: a job may have ended that has not on record.
local function awaits_restoration()
  local epoch = check_epoch()
  local restored = redis.call('HGET', HISTORY, 'restored')
  return restored and restored ~= time(epoch)
end

local function since()
  states.adopt()
  forget_expired(EXPIRED_PER_SWEEP)
  local epoch = check_epoch()
  local stored = redis.call('HMGET', HISTORY, 'sequence', 'forgotten')
  local sequence, forgotten = stored[1] or '0', tonumber(stored[2] or 0)
  local known = tonumber(arg.known_sequence or 0)
  if tonumber(arg.known_epoch or 0) ~= epoch or known < forgotten
    or redis.call('ZCOUNT', CHANGES, '(' .. time(known), '+inf') > tonumber(arg.limit) then
    return { 'lost', time(epoch), sequence, {}, {} }
  end
  return {
    'found', time(epoch), sequence,
    redis.call('ZRANGEBYSCORE', CHANGES, '(' .. time(known), '+inf'),
    redis.call('ZRANGEBYSCORE', REMOVED, '(' .. time(known), '+inf', 'WITHSCORES'),
  }
end

local function journal_state()
  local epoch = check_epoch()
  return { time(epoch), redis.call('HGET', HISTORY, 'sequence') or '0', is_restored() and 1 or 0 }
end
