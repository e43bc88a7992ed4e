-- The permits of sources: a rate limit, a concurrency limit and a circuit breaker for each. Dispatch gives
-- permits to jobs, and so does throttle.lua.
--
-- Keys. All times are milliseconds of Redis' own clock.
--   ingot:source:<name>          hash  next_time           when the next job may start at an even rate
--                                      open_reason         why the breaker is open; empty if closed
--                                      open_since          when it opened first
--                                      retry_at            when a trial may start
--                                      open_ms             how long the breaker was opened for
--                                      trial_permit        the permit of the trial; empty if there is none
--                                      trial_expires_at    when that permit expires
--                                      rate_limits         rate limit errors in a row while closed
--                                      interval_ms, burst, concurrency, permit_ms, wait_timeout_ms
--                                                          the limits, as workers announce them
--   ingot:source-permits:<name>  zset  jobs that have a permit, scored by the time at which it expires
--   ingot:source-waiting:<name>  zset  jobs that workers asked for too early, scored by the time at which
--                                      each may start
--   ingot:source-blocked:<name>  zset  jobs that wait for the breaker, scored by when they began to
--   ingot:job:<job id>           hash  permit       the source whose permit the job got with its dispatch
--                                                   and has not used yet
--                                      waits_since  when it became ready without a permit
--
-- The rate limit is GCRA (ITU-T I.371): each job that starts moves `next_time` on by one interval, and
-- `next_time` may be ahead of the clock by the burst. An open breaker lets one job through, the trial,
-- when `retry_at` has passed. While the breaker is open, only the outcome of the trial closes it or
-- opens it for longer.

local SOURCE, PERMITS = PREFIX .. 'source:', PREFIX .. 'source-permits:'
local WAITING, BLOCKED = PREFIX .. 'source-waiting:', PREFIX .. 'source-blocked:'
local DAY = 86400000

local function source_text(name, item)
  return redis.call('HGET', SOURCE .. name, item) or ''
end

local function source_number(name, item)
  return tonumber(source_text(name, item)) or 0
end

-- An unused key expires a day after the last time it contains.
local function keep_until(key, latest)
  redis.call('PEXPIRE', key, time(math.max(latest - now, 0) + DAY))
end

local function is_open(name)
  return source_text(name, 'open_reason') ~= ''
end

-- Milliseconds until a trial may start; zero if it may start now.
local function ms_until_trial(name)
  local at = source_number(name, 'retry_at')
  if source_text(name, 'trial_permit') ~= '' then
    at = math.max(at, source_number(name, 'trial_expires_at'))
  end
  return math.max(at - now, 0)
end

-- The time at which the rate limit lets a job start.
local function start_time(name, limits)
  if limits.interval_ms == 0 then
    return now
  end
  local next_time = math.max(source_number(name, 'next_time'), now)
  return math.max(next_time - (limits.burst - 1) * limits.interval_ms, now)
end

local function has_free_permit(name, limits)
  redis.call('ZREMRANGEBYSCORE', PERMITS .. name, '-inf', time(now))
  return limits.concurrency == 0 or redis.call('ZCARD', PERMITS .. name) < limits.concurrency
end

-- The limits that workers have announced, or nil.
local function announced_limits(name)
  local stored = redis.call('HMGET', SOURCE .. name,
    'interval_ms', 'burst', 'concurrency', 'permit_ms', 'wait_timeout_ms')
  return stored[1] and {
    interval_ms = tonumber(stored[1]), burst = tonumber(stored[2]), concurrency = tonumber(stored[3]),
    permit_ms = tonumber(stored[4]), wait_timeout_ms = tonumber(stored[5]),
  }
end

local function blocked_since(name, job_id)
  redis.call('ZREMRANGEBYSCORE', BLOCKED .. name, '-inf', time(now - DAY))
  local since = tonumber(field(job_id, 'waits_since')) or now
  since = math.max(since, math.min(source_number(name, 'open_since'), now))
  redis.call('ZADD', BLOCKED .. name, 'NX', time(since), job_id)
  keep_until(BLOCKED .. name, now)
  return tonumber(redis.call('ZSCORE', BLOCKED .. name, job_id))
end

local function extend_permit(name, job_id, expires_at)
  redis.call('ZADD', PERMITS .. name, time(expires_at), job_id)
  keep_until(PERMITS .. name, expires_at)
  if source_text(name, 'trial_permit') == job_id then
    redis.call('HSET', SOURCE .. name, 'trial_expires_at', time(expires_at))
  end
end

-- Gives a permit to a job that may start now; it is the trial if the breaker is open.
local function give_permit(name, job_id, limits, expires_at)
  if limits.interval_ms > 0 then
    local next_time = math.max(source_number(name, 'next_time'), now) + limits.interval_ms
    redis.call('HSET', SOURCE .. name, 'next_time', time(next_time))
    keep_until(SOURCE .. name, math.max(next_time, source_number(name, 'retry_at')))
  end
  if is_open(name) then
    redis.call('HSET', SOURCE .. name, 'trial_permit', job_id)
  end
  redis.call('ZREM', WAITING .. name, job_id)
  redis.call('ZREM', BLOCKED .. name, job_id)
  extend_permit(name, job_id, expires_at)
end

local function remove_permit(name, job_id)
  redis.call('ZREM', PERMITS .. name, job_id)
  if source_text(name, 'trial_permit') == job_id then
    redis.call('HSET', SOURCE .. name, 'trial_permit', '')
  end
end

-- Takes back what a job got with its dispatch and did not use.
local function return_permit(job_id)
  local name = field(job_id, 'permit')
  if name then
    redis.call('HDEL', JOB .. job_id, 'permit')
    remove_permit(name, job_id)
    local interval = source_number(name, 'interval_ms')
    if interval > 0 then
      redis.call('HSET', SOURCE .. name, 'next_time', time(source_number(name, 'next_time') - interval))
    end
  end
end

-- A job that ends waits for nothing any more.
local function leave_source(job_id)
  local name = field(job_id, 'source')
  if name and name ~= '' then
    redis.call('ZREM', WAITING .. name, job_id)
    redis.call('ZREM', BLOCKED .. name, job_id)
  end
end

-- How long a job of the source has to wait for a permit, in milliseconds, and for what: `open`,
-- `rate_limited` or `concurrency_limited`, of which it is not known how long. Nil if there is one now.
local function wait_for_permit(name, limits)
  if is_open(name) then
    local wait = ms_until_trial(name)
    if wait > 0 then
      return wait, 'open'
    end
  end
  local wait = start_time(name, limits) - now
  if wait > 0 then
    return wait, 'rate_limited'
  end
  if not has_free_permit(name, limits) then
    return nil, 'concurrency_limited'
  end
  return nil, nil
end
