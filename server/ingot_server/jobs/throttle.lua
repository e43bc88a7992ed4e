-- Whether a job may turn to a source now: one call of this script, all or nothing.
--
-- Keys (times are milliseconds of Redis' own clock)
--   ingot:source:<name>          hash  next        when the next turn would come at an even rate
--                                      reason      why the source is blocked; empty while it is not
--                                      until       when a trial may be made
--                                      block       how long the last block was
--                                      trial       the turn that tries it; empty if none
--                                      trial_until when that turn counts as dead
--                                      refusals    rate limits in a row while not blocked
--   ingot:source-turns:<name>    zset  turns that are taken, by the time at which they count as dead
--   ingot:source-line:<name>     zset  jobs that wait, by the time from which they may come again
--   ingot:source-blocked:<name>  zset  jobs that wait for the block to end, by when they began to
--
-- The rate is GCRA (ITU-T I.371): `next` moves on by one interval for each job and may be ahead of
-- the clock by the burst. A job that has to wait keeps its place in the line, so it waits once.
-- A block ends by the trial of one job. Only that turn's outcome counts while it lasts.
--
-- ARGV: the operation, the source's name, then names and values:
--   take   job turn lease interval burst concurrency
--          -> taken | waits, milliseconds | full | blocked, reason, milliseconds to the next trial,
--             milliseconds that this job has waited for the block to end
--   renew  turn lease -> done
--   leave  turn -> done
--   leave_line  job -> done: a job that will not come again
--   note   turn outcome (answered | refused | limited) reason block longest run -> done
--   state  -> open | blocked, reason, milliseconds to the next trial

local operation, name = ARGV[1], ARGV[2]
local arg = {}
for i = 3, #ARGV, 2 do
  arg[ARGV[i]] = ARGV[i + 1]
end

local SOURCE = 'ingot:source:' .. name
local TURNS = 'ingot:source-turns:' .. name
local LINE = 'ingot:source-line:' .. name
local BLOCKED = 'ingot:source-blocked:' .. name
local DAY = 86400000

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- Redis turns a Lua number into text by itself with 14 digits only, so times are formatted here.
local function time(milliseconds)
  return string.format('%.0f', milliseconds)
end

local function set(...)
  redis.call('HSET', SOURCE, ...)
end

local function number(field)
  return tonumber(redis.call('HGET', SOURCE, field) or '') or 0
end

-- What nobody uses any more goes by itself, a day after the last time it names.
local function keep(key, latest)
  redis.call('PEXPIRE', key, time(math.max(latest - now, 0) + DAY))
end

local function is_blocked()
  return (redis.call('HGET', SOURCE, 'reason') or '') ~= ''
end

-- Milliseconds until a trial may be made; zero when it may be made now.
local function to_trial()
  local at = number('until')
  if (redis.call('HGET', SOURCE, 'trial') or '') ~= '' then
    at = math.max(at, number('trial_until'))
  end
  return math.max(at - now, 0)
end

local function blocked_since(job)
  redis.call('ZREMRANGEBYSCORE', BLOCKED, '-inf', time(now - DAY))
  redis.call('ZADD', BLOCKED, 'NX', time(now), job)
  keep(BLOCKED, now)
  return tonumber(redis.call('ZSCORE', BLOCKED, job))
end

-- Milliseconds until the job may have a token; zero: it has one, and its place is in the line.
local function to_token()
  local interval = tonumber(arg.interval)
  if interval == 0 then
    return 0
  end
  local due = tonumber(redis.call('ZSCORE', LINE, arg.job) or '')
  if not due then
    redis.call('ZREMRANGEBYSCORE', LINE, '-inf', time(now - DAY))
    local next_turn = math.max(number('next'), now)
    due = math.max(next_turn - (arg.burst - 1) * interval, now)
    next_turn = next_turn + interval
    set('next', time(next_turn))
    redis.call('ZADD', LINE, time(due), arg.job)
    keep(SOURCE, math.max(next_turn, number('until')))
    keep(LINE, next_turn)
  end
  return math.max(due - now, 0)
end

local function take()
  local tries = is_blocked()
  if tries then
    local wait = to_trial()
    if wait > 0 then
      return { 'blocked', redis.call('HGET', SOURCE, 'reason'), time(wait),
        time(now - blocked_since(arg.job)) }
    end
  end
  local wait = to_token()
  if wait > 0 then
    return { 'waits', time(wait) }
  end
  redis.call('ZREMRANGEBYSCORE', TURNS, '-inf', time(now))
  local most = tonumber(arg.concurrency)
  if most > 0 and redis.call('ZCARD', TURNS) >= most then
    return { 'full' }
  end
  redis.call('ZREM', LINE, arg.job)
  redis.call('ZADD', TURNS, time(now + arg.lease), arg.turn)
  keep(TURNS, now + arg.lease)
  if tries then
    set('trial', arg.turn, 'trial_until', time(now + arg.lease))
  end
  redis.call('ZREM', BLOCKED, arg.job)
  return { 'taken' }
end

local function renew()
  redis.call('ZADD', TURNS, time(now + arg.lease), arg.turn)
  keep(TURNS, now + arg.lease)
  if redis.call('HGET', SOURCE, 'trial') == arg.turn then
    set('trial_until', time(now + arg.lease))
  end
  return { 'done' }
end

local function leave()
  redis.call('ZREM', TURNS, arg.turn)
  if redis.call('HGET', SOURCE, 'trial') == arg.turn then
    set('trial', '')
  end
  return { 'done' }
end

local function close()
  set('reason', '', 'until', 0, 'block', 0, 'trial', '', 'refusals', 0)
  redis.call('DEL', BLOCKED)
end

local function open()
  local last = number('block')
  local block = tonumber(arg.block)
  if last > 0 then
    block = math.min(last * 2, math.max(tonumber(arg.longest), block))
  end
  set('reason', arg.reason, 'until', time(now + block), 'block', time(block), 'trial', '',
    'refusals', 0)
  keep(SOURCE, math.max(now + block, number('next')))
end

local function note()
  if is_blocked() then
    if redis.call('HGET', SOURCE, 'trial') ~= arg.turn then
      return { 'done' }
    end
    if arg.outcome == 'answered' then
      close()
    else
      open()
    end
  elseif arg.outcome == 'answered' then
    if number('refusals') > 0 then
      set('refusals', 0)
    end
  elseif arg.outcome == 'refused' then
    open()
  else
    local refusals = redis.call('HINCRBY', SOURCE, 'refusals', 1)
    if refusals >= tonumber(arg.run) then
      open()
    else
      keep(SOURCE, math.max(now, number('next')))
    end
  end
  return { 'done' }
end

local operations = {
  take = take,
  renew = renew,
  leave = leave,
  leave_line = function()
    redis.call('ZREM', LINE, arg.job)
    redis.call('ZREM', BLOCKED, arg.job)
    return { 'done' }
  end,
  note = note,
  state = function()
    if is_blocked() then
      return { 'blocked', redis.call('HGET', SOURCE, 'reason'), time(to_trial()) }
    end
    return { 'open' }
  end,
}

return operations[operation]()
