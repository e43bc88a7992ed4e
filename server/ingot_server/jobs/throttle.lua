-- The throttle of one source: permits, a rate limit, a concurrency limit and a circuit breaker.
-- One call of this script is one atomic operation.
--
-- KEYS[1]: what all keys begin with, below `ingot:`.
--
-- Keys. All times are milliseconds of Redis' own clock.
--   ingot:source:<name>          hash  next_time           when the next job may start at an even rate
--                                      open_reason         why the breaker is open; empty if closed
--                                      retry_at            when a trial may start
--                                      open_ms             how long the breaker was opened for
--                                      trial_permit        the permit of the trial; empty if there is none
--                                      trial_expires_at    when that permit expires
--                                      rate_limits         rate limit errors in a row while closed
--   ingot:source-permits:<name>  zset  permits in use, scored by the time at which they expire
--   ingot:source-waiting:<name>  zset  waiting queue: job ids, scored by the time at which each may start
--   ingot:source-blocked:<name>  zset  job ids that wait for the breaker, scored by when they began to
--
-- The rate limit is GCRA (ITU-T I.371): each job moves `next_time` on by one interval, and `next_time`
-- may be ahead of the clock by the burst. A job keeps its place in the waiting queue, so it moves
-- `next_time` only once. An open breaker lets one job through, the trial, when `retry_at` has passed.
-- While the breaker is open, only the outcome of the trial closes it or opens it for longer.
--
-- ARGV: the operation, the source's name, then pairs of an argument's name and value:
--   acquire  job permit permit_ms interval_ms burst concurrency
--            -> acquired
--             | rate_limited, milliseconds until the job may start, how many jobs start before it
--             | concurrency_limited
--             | open, reason, milliseconds until the next trial, milliseconds that this job has waited
--   renew    permit permit_ms -> done
--   release  permit -> done
--   leave    job -> done: takes a job out of the waiting queue that will not come back
--   record   permit outcome (available | refused | rate_limited) reason open_ms longest_open_ms
--            rate_limit_threshold -> done
--   state    -> closed | open, reason, milliseconds until the next trial

local operation, name = ARGV[1], ARGV[2]
local arg = {}
for i = 3, #ARGV, 2 do
  arg[ARGV[i]] = ARGV[i + 1]
end

local SOURCE = KEYS[1] .. 'source:' .. name
local PERMITS = KEYS[1] .. 'source-permits:' .. name
local WAITING = KEYS[1] .. 'source-waiting:' .. name
local BLOCKED = KEYS[1] .. 'source-blocked:' .. name
local DAY = 86400000

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- Redis converts a Lua number to text with 14 digits only, so times are formatted here.
local function time(milliseconds)
  return string.format('%.0f', milliseconds)
end

local function set(...)
  redis.call('HSET', SOURCE, ...)
end

local function text(field)
  return redis.call('HGET', SOURCE, field) or ''
end

local function number(field)
  return tonumber(text(field)) or 0
end

-- An unused key expires a day after the last time it contains.
local function keep_until(key, latest)
  redis.call('PEXPIRE', key, time(math.max(latest - now, 0) + DAY))
end

local function is_open()
  return text('open_reason') ~= ''
end

-- Milliseconds until a trial may start; zero if it may start now.
local function ms_until_trial()
  local at = number('retry_at')
  if text('trial_permit') ~= '' then
    at = math.max(at, number('trial_expires_at'))
  end
  return math.max(at - now, 0)
end

local function blocked_since(job)
  redis.call('ZREMRANGEBYSCORE', BLOCKED, '-inf', time(now - DAY))
  redis.call('ZADD', BLOCKED, 'NX', time(now), job)
  keep_until(BLOCKED, now)
  return tonumber(redis.call('ZSCORE', BLOCKED, job))
end

-- Milliseconds until the rate limit lets the job start. Gives it a place in the waiting queue.
local function ms_until_start()
  local interval = tonumber(arg.interval_ms)
  if interval == 0 then
    return 0
  end
  local start = tonumber(redis.call('ZSCORE', WAITING, arg.job) or '')
  if not start then
    redis.call('ZREMRANGEBYSCORE', WAITING, '-inf', time(now - DAY))
    local next_time = math.max(number('next_time'), now)
    start = math.max(next_time - (arg.burst - 1) * interval, now)
    next_time = next_time + interval
    set('next_time', time(next_time))
    redis.call('ZADD', WAITING, time(start), arg.job)
    keep_until(SOURCE, math.max(next_time, number('retry_at')))
    keep_until(WAITING, next_time)
  end
  return math.max(start - now, 0)
end

local function acquire()
  local is_trial = is_open()
  if is_trial then
    local wait = ms_until_trial()
    if wait > 0 then
      return { 'open', text('open_reason'), time(wait), time(now - blocked_since(arg.job)) }
    end
  end
  local wait = ms_until_start()
  if wait > 0 then
    local ahead = redis.call('ZCOUNT', WAITING, time(now), '(' .. time(now + wait))
    return { 'rate_limited', time(wait), ahead }
  end
  redis.call('ZREMRANGEBYSCORE', PERMITS, '-inf', time(now))
  local limit = tonumber(arg.concurrency)
  if limit > 0 and redis.call('ZCARD', PERMITS) >= limit then
    return { 'concurrency_limited' }
  end
  local expires_at = now + arg.permit_ms
  redis.call('ZREM', WAITING, arg.job)
  redis.call('ZREM', BLOCKED, arg.job)
  redis.call('ZADD', PERMITS, time(expires_at), arg.permit)
  keep_until(PERMITS, expires_at)
  if is_trial then
    set('trial_permit', arg.permit, 'trial_expires_at', time(expires_at))
  end
  return { 'acquired' }
end

local function renew()
  local expires_at = now + arg.permit_ms
  redis.call('ZADD', PERMITS, time(expires_at), arg.permit)
  keep_until(PERMITS, expires_at)
  if text('trial_permit') == arg.permit then
    set('trial_expires_at', time(expires_at))
  end
  return { 'done' }
end

local function release()
  redis.call('ZREM', PERMITS, arg.permit)
  if text('trial_permit') == arg.permit then
    set('trial_permit', '')
  end
  return { 'done' }
end

local function leave()
  redis.call('ZREM', WAITING, arg.job)
  redis.call('ZREM', BLOCKED, arg.job)
  return { 'done' }
end

local function close_breaker()
  set('open_reason', '', 'retry_at', 0, 'open_ms', 0, 'trial_permit', '', 'rate_limits', 0)
  redis.call('DEL', BLOCKED)
end

-- Opens the breaker; twice as long as the last time if it has not closed since.
local function open_breaker()
  local last = number('open_ms')
  local open_ms = tonumber(arg.open_ms)
  if last > 0 then
    open_ms = math.min(last * 2, math.max(tonumber(arg.longest_open_ms), open_ms))
  end
  set('open_reason', arg.reason, 'retry_at', time(now + open_ms), 'open_ms', time(open_ms),
    'trial_permit', '', 'rate_limits', 0)
  keep_until(SOURCE, math.max(now + open_ms, number('next_time')))
end

local function record_while_open()
  if text('trial_permit') ~= arg.permit then
    return
  end
  if arg.outcome == 'available' then
    close_breaker()
  else
    open_breaker()
  end
end

local function record_while_closed()
  if arg.outcome == 'available' then
    if number('rate_limits') > 0 then
      set('rate_limits', 0)
    end
  elseif arg.outcome == 'refused' then
    open_breaker()
  elseif redis.call('HINCRBY', SOURCE, 'rate_limits', 1) >= tonumber(arg.rate_limit_threshold) then
    open_breaker()
  else
    keep_until(SOURCE, math.max(now, number('next_time')))
  end
end

local function record()
  if is_open() then
    record_while_open()
  else
    record_while_closed()
  end
  return { 'done' }
end

local function state()
  if is_open() then
    return { 'open', text('open_reason'), time(ms_until_trial()) }
  end
  return { 'closed' }
end

local operations = {
  acquire = acquire,
  renew = renew,
  release = release,
  leave = leave,
  record = record,
  state = state,
}

return operations[operation]()
