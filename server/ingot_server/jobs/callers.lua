-- What callers use: jobs that have not ended, and the bytes of today. A list counts as one job, whatever its
-- children are. Their bytes count for the caller of the list.
--
-- Keys.
--   ingot:job:<job id>              hash    counted     1 if the job is counted for its caller
--                                           daily_bytes bytes that the caller of a job which receives some
--                                                       may receive in a day; missing without a limit
--   ingot:caller-jobs               hash    caller -> number of jobs
--   ingot:daily-bytes:<caller>      string  bytes that jobs and uploads have received; it expires with the day

-- One table, because a script has room for 200 local variables.
local callers = { JOBS = PREFIX .. 'caller-jobs', DAILY_BYTES = PREFIX .. 'daily-bytes:' }

function callers.has_all_daily_bytes(caller, limit)
  return limit and tonumber(redis.call('GET', callers.DAILY_BYTES .. caller) or 0) >= tonumber(limit)
end

-- The limit of the caller that does not let it have another job; nil if it may have one.
function callers.used_up()
  if arg.most_jobs
    and tonumber(redis.call('HGET', callers.JOBS, arg.caller) or 0) >= tonumber(arg.most_jobs) then
    return 'jobs'
  end
  return callers.has_all_daily_bytes(arg.caller, arg.daily_bytes) and 'daily_bytes' or nil
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
