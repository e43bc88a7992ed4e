-- What callers use: jobs that have not ended, the bytes of today, and those that are stored. A list counts as one
-- job, whatever its children are. Their bytes count for the caller of the list. What runs is in running_jobs.lua.
--
-- Keys.
--   ingot:job:<job id>              hash    counted     `queued` if the job is counted for its caller, also among
--                                                       those that are QUEUED; 1 if only among all
--                                           daily_bytes bytes that the caller of a job which receives some
--                                                       may receive in a day; missing without a limit
--                                           stored_bytes  bytes that the caller may own; missing without a limit
--   ingot:caller-jobs               hash    caller -> number of jobs
--   ingot:caller-queued             hash    caller -> number of those that are QUEUED
--   ingot:daily-bytes:<caller>      string  bytes that jobs and uploads have received; it expires with the day
--   ingot:index:owner-bytes         hash    caller with a name -> bytes of its media items (media_index.py)

-- One table, because a script has room for 200 local variables.
local callers = {
  JOBS = PREFIX .. 'caller-jobs', QUEUED = PREFIX .. 'caller-queued',
  DAILY_BYTES = PREFIX .. 'daily-bytes:', STORED_BYTES = PREFIX .. 'index:owner-bytes',
  -- Limits that a job has from its caller, and the children of a list from that.
  OF_JOBS = { 'running_jobs', 'daily_bytes', 'stored_bytes' },
}

-- Which of the two limits of bytes, each of which may be missing, the caller has reached; nil if none.
function callers.bytes_used_up(caller, daily, stored)
  if stored and tonumber(redis.call('HGET', callers.STORED_BYTES, caller) or 0) >= tonumber(stored) then
    return 'stored_bytes'
  elseif daily and tonumber(redis.call('GET', callers.DAILY_BYTES .. caller) or 0) >= tonumber(daily) then
    return 'daily_bytes'
  end
  return nil
end

-- The limit of the caller that does not let it have another job; nil if it may have one.
function callers.used_up()
  for _, limit in ipairs({ { 'jobs', callers.JOBS }, { 'queued_jobs', callers.QUEUED } }) do
    local name, key = unpack(limit)
    if arg[name] and tonumber(redis.call('HGET', key, arg.caller) or 0) >= tonumber(arg[name]) then
      return name
    end
  end
  return callers.bytes_used_up(arg.caller, arg.daily_bytes, arg.stored_bytes)
end

function callers.write_limits()
  for _, name in ipairs(callers.OF_JOBS) do
    local limit = arg[name] or (arg.parent and field(arg.parent, name))
    if limit then
      redis.call('HSET', JOB .. id, name, limit)
    end
  end
end

-- The caller of the job has so many more in one of the two counts of jobs.
function callers.add(key, jobs)
  local caller = field(id, 'caller')
  if redis.call('HINCRBY', key, caller, jobs) <= 0 then
    redis.call('HDEL', key, caller)
  end
end

function callers.count_job()
  redis.call('HSET', JOB .. id, 'counted', 1)
  callers.add(callers.JOBS, 1)
end

-- The job may have another state now.
function callers.count_queued()
  local counted = field(id, 'counted')
  local wanted = tonumber(arg.state) == QUEUED and 'queued' or '1'
  if counted and counted ~= wanted then
    redis.call('HSET', JOB .. id, 'counted', wanted)
    callers.add(callers.QUEUED, wanted == 'queued' and 1 or -1)
  end
end

function callers.uncount_job()
  local counted = field(id, 'counted')
  if counted then
    redis.call('HDEL', JOB .. id, 'counted')
    callers.add(callers.JOBS, -1)
    if counted == 'queued' then
      callers.add(callers.QUEUED, -1)
    end
  end
end
