-- Which groups of the journal in the bucket are still needed. The parts of the script are arguments.lua,
-- permits.lua, dispatch.lua, this one and transition.lua.
--
-- Keys. All times are milliseconds of Redis' own clock. A group is one object, `journal/<group>`.
--   ingot:job:<job id>              hash    a further field of those in transition.lua:
--                                           journal     the group that has the job's entry; unset if none
--   ingot:journal:<group>           set     ids of the jobs of the group that have not ended
--   ingot:journal-due               zset    groups all of whose jobs have ended, scored by when a worker
--                                           may remove them from the bucket
--   ingot:journal-partial           zset    groups some of whose jobs have ended, scored by when the first did
--   ingot:journal-removal           string  expires; groups were removed lately
--   ingot:journal-check             string  expires; the journal was lately compared with Redis
--   ingot:history                   hash    a further field of those in transition.lua:
--                                           restored    the epoch in which all entries of the journal were
--                                                       found to have a record
--
-- Invariants. A job has at most one group. A group that is in neither of these keys is unknown: it was
-- written just now, or Redis has lost it, and then jobs of it, too. Groups are noted as a whole, after
-- the records of their jobs were made; so a Redis that has lost its last writes knows all of a group,
-- or nothing of it.

local JOURNAL, JOURNAL_DUE = PREFIX .. 'journal:', PREFIX .. 'journal-due'
local JOURNAL_PARTIAL, JOURNAL_REMOVAL = PREFIX .. 'journal-partial', PREFIX .. 'journal-removal'

local function is_known_group(group)
  return redis.call('EXISTS', JOURNAL .. group) == 1
    or redis.call('ZSCORE', JOURNAL_DUE, group) ~= false
end

local function join_group(group, job_id)
  redis.call('HSET', JOB .. job_id, 'journal', group)
  redis.call('SADD', JOURNAL .. group, job_id)
end

-- A group that is in the bucket and that no job has joined is due for removal.
local function remove_if_unneeded(group)
  if not is_known_group(group) then
    redis.call('ZADD', JOURNAL_DUE, time(now), group)
  end
end

local function leave_group(group, job_id)
  if redis.call('SREM', JOURNAL .. group, job_id) == 0 then
    return
  end
  if redis.call('EXISTS', JOURNAL .. group) == 0 then
    redis.call('ZREM', JOURNAL_PARTIAL, group)
    redis.call('ZADD', JOURNAL_DUE, time(now), group)
  else
    redis.call('ZADD', JOURNAL_PARTIAL, 'NX', time(now), group)
  end
end

-- The job has ended, so its entry is needed no more.
local function leave_journal(job_id)
  local group = field(job_id, 'journal')
  if group then
    leave_group(group, job_id)
  end
end

-- Notes a group that is in the bucket. A job that has ended, or that another group has, does not need it.
local function note_group()
  local group = id
  for job_id in string.gmatch(arg.jobs, '%S+') do
    if redis.call('EXISTS', JOB .. job_id) == 0 then
      return { 'gone' }
    end
  end
  for job_id in string.gmatch(arg.jobs, '%S+') do
    local stored = redis.call('HMGET', JOB .. job_id, 'ended', 'journal')
    if stored[1] == '0' and (not stored[2] or stored[2] == group) then
      join_group(group, job_id)
    end
  end
  remove_if_unneeded(group)
  return { 'done' }
end

local function unknown_groups()
  local unknown = { time(now) }
  for group in string.gmatch(arg.groups, '%S+') do
    if not is_known_group(group) then
      unknown[#unknown + 1] = group
    end
  end
  return unknown
end

-- Groups to remove now. They are hidden from other workers for a while, and due again if they were not
-- removed until then.
local function due_groups()
  if not arg.again
    and not redis.call('SET', JOURNAL_REMOVAL, '', 'NX', 'PX', arg.interval) then
    return {}
  end
  local due = redis.call('ZRANGEBYSCORE', JOURNAL_DUE, '-inf', time(now), 'LIMIT', 0, arg.limit)
  for _, group in ipairs(due) do
    redis.call('ZADD', JOURNAL_DUE, time(now + arg.recheck), group)
  end
  return due
end

-- Groups some of whose jobs have ended a while ago, and the jobs that have not. Other workers get the same
-- only after that time.
local function partial_groups()
  local groups = redis.call('ZRANGEBYSCORE', JOURNAL_PARTIAL, '-inf', time(now - arg.age),
    'LIMIT', 0, arg.limit)
  local jobs = {}
  for _, group in ipairs(groups) do
    redis.call('ZADD', JOURNAL_PARTIAL, time(now), group)
    for _, job_id in ipairs(redis.call('SMEMBERS', JOURNAL .. group)) do
      jobs[#jobs + 1] = job_id
    end
  end
  return jobs
end

-- Notes a group that is in the bucket in place of those that its jobs have now.
local function move_to_group()
  local group = id
  for job_id in string.gmatch(arg.jobs, '%S+') do
    local stored = redis.call('HMGET', JOB .. job_id, 'ended', 'journal')
    if stored[1] == '0' and stored[2] and stored[2] ~= group then
      join_group(group, job_id)
      leave_group(stored[2], job_id)
    end
  end
  remove_if_unneeded(group)
  return { 'done' }
end

local function forget_groups()
  for group in string.gmatch(arg.groups, '%S+') do
    redis.call('ZREM', JOURNAL_DUE, group)
  end
  return { 'done' }
end

-- Whether a job of the group has not ended, for the collection of garbage.
local function needed_groups()
  local needed = {}
  for group in string.gmatch(arg.groups, '%S+') do
    if redis.call('EXISTS', JOURNAL .. group) == 1 then
      needed[#needed + 1] = group
    end
  end
  return needed
end
