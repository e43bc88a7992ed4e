-- What callers use: jobs that have not ended, the bytes of today, and those that are stored. A list counts as one
-- job, whatever its children are. Their bytes count for the caller of the list.
--
-- Keys.
--   ingot:job:<job id>              hash    counted     1 if the job is counted for its caller
--                                           daily_bytes bytes that the caller of a job which receives some
--                                                       may receive in a day; missing without a limit
--                                           stored_bytes  bytes that the caller may own; missing without a limit
--   ingot:caller-jobs               hash    caller -> number of jobs
--   ingot:daily-bytes:<caller>      string  bytes that jobs and uploads have received; it expires with the day
--   ingot:index:owner-bytes         hash    caller with a name -> bytes of its media items (media_index.py)

-- One table, because a script has room for 200 local variables.
local callers = {
  JOBS = PREFIX .. 'caller-jobs', DAILY_BYTES = PREFIX .. 'daily-bytes:', STORED_BYTES = PREFIX .. 'index:owner-bytes',
  -- Limits that a job has from its caller, and the children of a list from that.
  OF_JOBS = { 'daily_bytes', 'stored_bytes' },
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
  if arg.jobs and tonumber(redis.call('HGET', callers.JOBS, arg.caller) or 0) >= tonumber(arg.jobs) then
    return 'jobs'
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

function callers.count_job()
  redis.call('HSET', JOB .. id, 'counted', 1)
  redis.call('HINCRBY', callers.JOBS, field(id, 'caller'), 1)
end

function callers.uncount_job()
  if redis.call('HDEL', JOB .. id, 'counted') == 0 then
    return
  end
  local caller = field(id, 'caller')
  if redis.call('HINCRBY', callers.JOBS, caller, -1) <= 0 then
    redis.call('HDEL', callers.JOBS, caller)
  end
end
