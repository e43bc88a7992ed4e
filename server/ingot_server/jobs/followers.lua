-- Jobs that wait for another job, which makes the same media item. They wait without a worker, a slot and a
-- message, and are ready again when that job has ended, whatever its end is.
--
-- Keys.
--   ingot:job:<job id>              hash    a further field of those in transition.lua:
--                                           follows     id of the job that it waits for, or has waited for
--                                                       before its present run
--   ingot:followers:<job id>        zset    ids of the jobs that wait for the end of this one, scored by
--                                           when they began to
--
-- Invariant. A QUEUED job that is in the followers of another one is neither ready nor in the deadlines, and
-- cannot be claimed.

local FOLLOWERS = PREFIX .. 'followers:'

local function is_following(job_id)
  local leader = field(job_id, 'follows')
  return leader and redis.call('ZSCORE', FOLLOWERS .. leader, job_id)
end

local function stop_following(job_id)
  local leader = field(job_id, 'follows')
  if leader then
    redis.call('ZREM', FOLLOWERS .. leader, job_id)
    redis.call('HDEL', JOB .. job_id, 'follows')
  end
end

-- If the leader has ended meanwhile, the job is ready at once.
local function follow(job_id, leader)
  redis.call('HSET', JOB .. job_id, 'follows', leader)
  if field(leader, 'ended') == '0' then
    redis.call('ZADD', FOLLOWERS .. leader, time(now), job_id)
    redis.call('ZREM', DEADLINES, job_id)
  else
    make_ready(job_id)
  end
end

-- Their next runs read how this job has ended.
local function wake_followers(leader)
  for _, job_id in ipairs(redis.call('ZRANGE', FOLLOWERS .. leader, 0, -1)) do
    make_ready(job_id)
  end
  redis.call('DEL', FOLLOWERS .. leader)
end
