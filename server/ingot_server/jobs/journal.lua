-- Which groups of the journal in the bucket are still needed.
--
-- Keys. All times are milliseconds of Redis' own clock. A group is one object, `journal/<group>`: entries of
-- jobs that were accepted, or, if its name ends with `-ends`, of jobs that have ended.
--   ingot:job:<job id>              hash    further fields of those in transition.lua:
--                                           journal     the group that has the job's entry; unset if none
--                                           end_recorded  1 if the bucket has the job's end
--                                           journal_webhooks  how many webhooks its entry has
--   ingot:journal:<group>           set     ids of the jobs of the group whose ends the bucket does not have
--   ingot:journal-ended             zset    "job group" of jobs that have ended and whose ends the bucket does
--                                           not have, scored by when a worker may write them
--   ingot:journal-due               zset    groups that are not needed, or not for long, scored by when a
--                                           worker may remove them from the bucket
--   ingot:journal-covers:<group>    set     groups with entries of jobs whose ends this group has: it stays
--                                           for as long as they do
--   ingot:journal-partial           zset    groups that have the entries of jobs whose ends are recorded, and
--                                           of others, scored by when the first was
--   ingot:journal-removal           string  expires; groups were removed lately
--   ingot:journal-ending            string  expires; ends were written lately
--   ingot:journal-check             string  expires; the journal was lately compared with Redis
--   ingot:history                   hash    a further field of those in transition.lua:
--                                           restored    the epoch in which all entries of the journal were
--                                                       found to have a record
--
-- Invariants. A job has at most one group. A job whose end the bucket does not have is in the set of its
-- group. An entry is in the bucket for no longer than the end of its job. A group that is in no set and not
-- due is unknown: it was written just now, or Redis has lost it, and then jobs of it, too. Groups are noted
-- as a whole, after the records of their jobs were made or have ended; so a Redis that has lost its last
-- writes knows all of a group, or nothing of it.

local JOURNAL, JOURNAL_DUE = PREFIX .. 'journal:', PREFIX .. 'journal-due'
local JOURNAL_PARTIAL, JOURNAL_REMOVAL = PREFIX .. 'journal-partial', PREFIX .. 'journal-removal'
local JOURNAL_ENDED, JOURNAL_ENDING = PREFIX .. 'journal-ended', PREFIX .. 'journal-ending'
local JOURNAL_COVERS = PREFIX .. 'journal-covers:'

local function is_known_group(group)
  return redis.call('EXISTS', JOURNAL .. group) == 1
    or redis.call('ZSCORE', JOURNAL_DUE, group) ~= false
end

local function has_ends(group)
  return string.sub(group, -5) == '-ends'
end

local function leave_group(group, job_id)
  redis.call('ZREM', JOURNAL_ENDED, job_id .. ' ' .. group)
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

-- The job has ended: a worker writes that to the bucket.
local function leave_journal(job_id)
  local group = field(job_id, 'journal')
  if group then
    redis.call('ZADD', JOURNAL_ENDED, 'NX', time(now), job_id .. ' ' .. group)
  end
end

local function join_group(group, job_id)
  local former = field(job_id, 'journal')
  redis.call('HSET', JOB .. job_id, 'journal', group)
  redis.call('SADD', JOURNAL .. group, job_id)
  if former and former ~= group then
    leave_group(former, job_id)
  end
  -- Also if its end was recorded: it has to stay in the bucket for as long as this entry.
  if field(job_id, 'ended') == '1' then
    leave_journal(job_id)
  end
end

-- Notes a group that is in the bucket, in place of those that its jobs had.
local function note_group()
  local group = id
  for job_id in string.gmatch(arg.jobs, '([^/%s]+)%S*') do
    if redis.call('EXISTS', JOB .. job_id) == 0 then
      return { 'gone' }
    end
  end
  for job_id, webhooks in string.gmatch(arg.jobs, '([^/%s]+)/?(%d*)') do
    local former = tonumber(field(job_id, 'journal_webhooks') or 0)
    -- Entries of one job can arrive in another order than they were made.
    if (tonumber(webhooks) or 0) >= former then
      join_group(group, job_id)
      redis.call('HSET', JOB .. job_id, 'journal_webhooks', tonumber(webhooks) or 0)
    end
  end
  if redis.call('EXISTS', JOURNAL .. group) == 0 then
    redis.call('ZADD', JOURNAL_DUE, time(now), group)
  end
  return { 'done' }
end

-- Notes a group of ends that is in the bucket, unless some of its jobs have not ended on record: these are
-- returned.
local function note_ends()
  local unended = {}
  for job_id in string.gmatch(arg.jobs, '%S+') do
    if field(job_id, 'ended') ~= '1' then
      unended[#unended + 1] = job_id
    end
  end
  if unended[1] then
    return unended
  end
  for job_id in string.gmatch(arg.jobs, '%S+') do
    local group = field(job_id, 'journal')
    if group then
      if is_known_group(group) then
        redis.call('SADD', JOURNAL_COVERS .. id, group)
      end
      leave_group(group, job_id)
    end
    redis.call('HSET', JOB .. job_id, 'end_recorded', 1)
  end
  redis.call('ZADD', JOURNAL_DUE, time(now + arg.keep), id)
  return {}
end

-- Jobs whose ends must be written to the bucket now. They are hidden from other workers for a while.
local function ended_jobs()
  if not arg.again
    and not redis.call('SET', JOURNAL_ENDING, '', 'NX', 'PX', arg.interval) then
    return {}
  end
  local jobs = {}
  local due = redis.call('ZRANGEBYSCORE', JOURNAL_ENDED, '-inf', time(now), 'LIMIT', 0, arg.limit)
  for _, member in ipairs(due) do
    local job_id, group = string.match(member, '(%S+) (%S+)')
    if redis.call('EXISTS', JOB .. job_id) == 0 then
      -- Its record has expired.
      leave_group(group, job_id)
    else
      redis.call('ZADD', JOURNAL_ENDED, time(now + arg.recheck), member)
      jobs[#jobs + 1] = job_id
    end
  end
  return jobs
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

local function covers_known_group(group)
  for _, covered in ipairs(redis.call('SMEMBERS', JOURNAL_COVERS .. group)) do
    if is_known_group(covered) then
      return true
    end
  end
  return false
end

-- Groups to remove now. They are hidden from other workers for a while, and due again if they were not
-- removed until then.
local function due_groups()
  if not arg.again
    and not redis.call('SET', JOURNAL_REMOVAL, '', 'NX', 'PX', arg.interval) then
    return {}
  end
  local groups = {}
  local due = redis.call('ZRANGEBYSCORE', JOURNAL_DUE, '-inf', time(now), 'LIMIT', 0, arg.limit)
  for _, group in ipairs(due) do
    redis.call('ZADD', JOURNAL_DUE, time(now + arg.recheck), group)
    if not covers_known_group(group) and not (has_ends(group) and ends_must_stay()) then
      groups[#groups + 1] = group
    end
  end
  return groups
end

-- The other jobs of groups of which the ends of some were recorded a while ago. Other workers get the same
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

-- Groups are no longer in the bucket. Returns the jobs that have their entries in one of them all the same: Redis
-- lost data after it had said that no job needs the group, and has the group from the bucket again.
local function forget_groups()
  local jobs = {}
  for group in string.gmatch(arg.groups, '%S+') do
    redis.call('ZREM', JOURNAL_DUE, group)
    redis.call('DEL', JOURNAL_COVERS .. group)
    for _, job_id in ipairs(redis.call('SMEMBERS', JOURNAL .. group)) do
      jobs[#jobs + 1] = job_id
    end
  end
  return jobs
end

-- Whether a job of the group has not ended, or its ends are still of use, for the collection of garbage.
local function needed_groups()
  local needed = {}
  for group in string.gmatch(arg.groups, '%S+') do
    local due = redis.call('ZSCORE', JOURNAL_DUE, group)
    if redis.call('EXISTS', JOURNAL .. group) == 1
      or (has_ends(group) and (covers_known_group(group) or (due and tonumber(due) > now))) then
      needed[#needed + 1] = group
    end
  end
  return needed
end
