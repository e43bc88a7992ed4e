-- The throttle of one source, for workers: see permits.lua for its keys. The first parts of the script are
-- arguments.lua and permits.lua. One call of it is one atomic operation.
--
-- ARGV: the operation, the source's name, then pairs of an argument's name and value:
--   limit    interval_ms burst concurrency permit_ms wait_timeout_ms -> done: announces the limits
--   acquire  job parent permit_ms interval_ms burst concurrency
--            -> acquired
--             | rate_limited, milliseconds until the job may start, how many jobs start before it
--             | concurrency_limited
--             | open, reason, milliseconds until the next trial, milliseconds that this job has waited
--            A job whose dispatch came with a permit has it. It is handed on to a child that the worker
--            of its `parent` runs; that is empty if there is none.
--   renew    job permit_ms -> done
--   release  job -> done
--   leave    job -> done: the job will not come back
--   record   job outcome (available | refused | rate_limited) reason open_ms longest_open_ms
--            rate_limit_threshold -> done
--   state    -> closed | open, reason, milliseconds until the next trial

local name = id

local function set(...)
  redis.call('HSET', SOURCE .. name, ...)
end

local function text(item)
  return source_text(name, item)
end

local function limit()
  set('interval_ms', arg.interval_ms, 'burst', arg.burst, 'concurrency', arg.concurrency,
    'permit_ms', arg.permit_ms, 'wait_timeout_ms', arg.wait_timeout_ms)
  local last = math.max(source_number(name, 'next_time'), source_number(name, 'retry_at'), now)
  keep_until(SOURCE .. name, last)
  return { 'done' }
end

-- Uses the permit that the job, or the parent that it runs for, got with its dispatch.
local function use_dispatched()
  for _, holder in ipairs({ arg.job, arg.parent }) do
    if holder ~= '' and field(holder, 'permit') == name then
      if (tonumber(redis.call('ZSCORE', PERMITS .. name, holder) or '') or 0) <= now then
        -- It has expired, so another job may have its place.
        return_permit(holder)
        return false
      end
      redis.call('HDEL', JOB .. holder, 'permit')
      if holder ~= arg.job then
        redis.call('ZREM', PERMITS .. name, holder)
        if text('trial_permit') == holder then
          set('trial_permit', arg.job)
        end
      end
      extend_permit(name, arg.job, now + arg.permit_ms)
      return true
    end
  end
  return false
end

-- The time at which a job may start that waits behind those that asked before it.
local function turn_of_job(limits)
  local turn = tonumber(redis.call('ZSCORE', WAITING .. name, arg.job) or '')
  if turn then
    return turn
  end
  redis.call('ZREMRANGEBYSCORE', WAITING .. name, '-inf', time(now - DAY))
  turn = start_time(name, limits)
  local last = redis.call('ZREVRANGE', WAITING .. name, 0, 0, 'WITHSCORES')[2]
  if last then
    turn = math.max(turn, tonumber(last) + limits.interval_ms)
  end
  if turn > now then
    redis.call('ZADD', WAITING .. name, time(turn), arg.job)
    keep_until(WAITING .. name, turn)
  end
  return turn
end

local function acquire()
  if use_dispatched() then
    return { 'acquired' }
  end
  local limits = { interval_ms = tonumber(arg.interval_ms), burst = tonumber(arg.burst),
    concurrency = tonumber(arg.concurrency) }
  if is_open(name) then
    local wait = ms_until_trial(name)
    if wait > 0 then
      return { 'open', text('open_reason'), time(wait), time(now - blocked_since(name, arg.job)) }
    end
  end
  if limits.interval_ms > 0 then
    local turn = math.max(turn_of_job(limits), start_time(name, limits))
    if turn > now then
      return { 'rate_limited', time(turn - now),
        redis.call('ZCOUNT', WAITING .. name, time(now), '(' .. time(turn)) }
    end
  end
  if not has_free_permit(name, limits) then
    return { 'concurrency_limited' }
  end
  give_permit(name, arg.job, limits, now + arg.permit_ms)
  return { 'acquired' }
end

local function renew()
  extend_permit(name, arg.job, now + arg.permit_ms)
  return { 'done' }
end

local function release()
  remove_permit(name, arg.job)
  return { 'done' }
end

local function leave()
  redis.call('ZREM', WAITING .. name, arg.job)
  redis.call('ZREM', BLOCKED .. name, arg.job)
  return { 'done' }
end

local function close_breaker()
  set('open_reason', '', 'open_since', '', 'retry_at', 0, 'open_ms', 0, 'trial_permit', '',
    'rate_limits', 0)
  redis.call('DEL', BLOCKED .. name)
end

-- Opens the breaker; twice as long as the last time if it has not closed since.
local function open_breaker()
  local last = source_number(name, 'open_ms')
  if not is_open(name) then
    set('open_since', time(now))
  end
  local open_ms = tonumber(arg.open_ms)
  if last > 0 then
    open_ms = math.min(last * 2, math.max(tonumber(arg.longest_open_ms), open_ms))
  end
  set('open_reason', arg.reason, 'retry_at', time(now + open_ms), 'open_ms', time(open_ms),
    'trial_permit', '', 'rate_limits', 0)
  keep_until(SOURCE .. name, math.max(now + open_ms, source_number(name, 'next_time')))
end

local function record_while_open()
  if text('trial_permit') ~= arg.job then
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
    if source_number(name, 'rate_limits') > 0 then
      set('rate_limits', 0)
    end
  elseif arg.outcome == 'refused' then
    open_breaker()
  elseif redis.call('HINCRBY', SOURCE .. name, 'rate_limits', 1) >= tonumber(arg.rate_limit_threshold) then
    open_breaker()
  else
    keep_until(SOURCE .. name, math.max(now, source_number(name, 'next_time')))
  end
end

local function record()
  if is_open(name) then
    record_while_open()
  else
    record_while_closed()
  end
  return { 'done' }
end

local function state()
  if is_open(name) then
    return { 'open', text('open_reason'), time(ms_until_trial(name)) }
  end
  return { 'closed' }
end

local operations = {
  limit = limit,
  acquire = acquire,
  renew = renew,
  release = release,
  leave = leave,
  record = record,
  state = state,
}

return operations[operation]()
