-- How many jobs of each caller have not ended. A list counts as one job, whatever its children are.
--
-- Keys.
--   ingot:job:<job id>              hash    counted     1 if the job is counted for its caller
--   ingot:caller-jobs               hash    caller -> number of jobs

local CALLER_JOBS = PREFIX .. 'caller-jobs'

-- Whether the caller may not have another job.
local function has_all_jobs()
  return arg.most_jobs
    and tonumber(redis.call('HGET', CALLER_JOBS, arg.caller) or 0) >= tonumber(arg.most_jobs)
end

local function count_for_caller()
  redis.call('HSET', JOB .. id, 'counted', 1)
  redis.call('HINCRBY', CALLER_JOBS, field(id, 'caller'), 1)
end

local function uncount_for_caller()
  if redis.call('HDEL', JOB .. id, 'counted') == 0 then
    return
  end
  local caller = field(id, 'caller')
  if redis.call('HINCRBY', CALLER_JOBS, caller, -1) <= 0 then
    redis.call('HDEL', CALLER_JOBS, caller)
  end
end
