-- How many jobs of a caller run at the same time, and how many may. What is more waits, and is not refused.
--
-- Keys. A <queue> is `fetch` or `convert`.
--   ingot:job:<job id>              hash    a further field of those in transition.lua:
--                                           running_jobs  how many jobs of its caller may hold slots; missing
--                                                       without a limit
--   ingot:running-jobs              hash    caller -> number of its jobs that hold slots, in both queues
--   ingot:running-limits            hash    `<queue> <caller>` -> the limit of a caller with ready jobs: that of
--                                           the job that became ready last

-- One table, because a script has room for 200 local variables.
local running = { JOBS = PREFIX .. 'running-jobs', LIMITS = PREFIX .. 'running-limits' }

-- The caller has so many more jobs that hold slots.
function running.count(caller, jobs)
  if redis.call('HINCRBY', running.JOBS, caller, jobs) <= 0 then
    redis.call('HDEL', running.JOBS, caller)
  end
end

-- A job of the caller is ready.
function running.note_limit(queue, caller, job_id)
  local limit = field(job_id, 'running_jobs')
  if limit then
    redis.call('HSET', running.LIMITS, queue .. ' ' .. caller, limit)
  else
    running.forget_limit(queue, caller)
  end
end

function running.forget_limit(queue, caller)
  redis.call('HDEL', running.LIMITS, queue .. ' ' .. caller)
end

-- Whether no ready job of the caller may run before another one of its jobs gives up its slots.
function running.is_at_limit(queue, caller)
  local limit = redis.call('HGET', running.LIMITS, queue .. ' ' .. caller)
  return limit and tonumber(redis.call('HGET', running.JOBS, caller) or 0) >= tonumber(limit)
end
