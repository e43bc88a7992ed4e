-- Which jobs are ready, which hold a slot of a worker, and which one is dispatched next.
--
-- Keys. All times are milliseconds of Redis' own clock. A <queue> is `fetch` or `convert`.
--   ingot:job:<job id>              hash    further fields of those in transition.lua:
--                                           queue       which workers run the job
--                                           caller      address of the caller, or that of its parent's
--                                           host        that the job fetches from; empty if none
--                                           source      whose permit the job needs; empty if none
--                                           priority    Job.priority
--                                           cost        slots that the job takes; 0 means all of a worker
--                                           age         the turn at which it became ready first
--   ingot:ready:<queue>             zset    callers with ready jobs, scored by the slots that they hold,
--                                           then by the turn of their last dispatch
--   ingot:ready:<queue> <caller> <priority>         zset  hosts with such jobs, by turn
--   ingot:ready:<queue> <caller> <priority> <host>  zset  ids of such jobs, by age
--   ingot:held:<queue>              hash    job id -> "worker slots caller host" of each job that was
--                                           dispatched and has not given up its slots since
--   ingot:load:<queue>              hash    slots in use of `caller <caller>`, `host <host>`,
--                                           `worker <worker>` and `at <worker> <host>`
--   ingot:turns:<queue>             hash    turn: number of the last dispatch or arrival;
--                                           `passed <caller>`: its dispatches since one of low priority
--   ingot:slots:<queue>             hash    worker -> how many slots it has
--   ingot:slots-left:<queue>        hash    the same of workers that have gone lately
--   ingot:slots-until:<queue>       zset    workers, scored by when they have to be announced again
--
-- Invariants. A QUEUED job is ready, or dispatched, or waits for a time (in the deadlines), for its turn
-- among the entries of its parent, or for another job (followers.lua). A job holds slots from its dispatch
-- until no worker holds its lease. The loads are the sums over `held`.

local DEADLINES = PREFIX .. 'deadlines'
local READY, HELD, LOAD = PREFIX .. 'ready:', PREFIX .. 'held:', PREFIX .. 'load:'
local TURNS, SLOTS, SLOTS_UNTIL = PREFIX .. 'turns:', PREFIX .. 'slots:', PREFIX .. 'slots-until:'
local LEFT, LEFT_LIFETIME = PREFIX .. 'slots-left:', 60000
local QUEUES = { 'fetch', 'convert' }
local LOW, NORMAL, HIGH = 1, 2, 3
-- Of so many dispatches of a caller, one has low priority if there is such a job.
local LOW_EACH = 10
-- With fewer slots than these, one caller or host may use all of them.
local SHARED_FROM = 4
-- How many slots a caller, and a host, may hold for each slot that is free. What stays free shrinks with the
-- number of those that hold slots, and is never nothing because of them: a dynamic threshold (Choudhury and
-- Hahne, 1998).
local CALLER_SHARE, HOST_SHARE = 3, 1
-- Each worker of this queue has a place in reserve, for a caller that holds no slot: its jobs take minutes,
-- and there are so few slots that none of them should stay free.
local RESERVED = 'convert'
-- What one slot adds to the score of a caller; turns are less than this.
local SLOT_SCORE = 1e10
local PAGE = 16

local function set_deadline(milliseconds)
  redis.call('ZADD', DEADLINES, time(now + milliseconds), id)
end

local function next_turn(queue)
  return redis.call('HINCRBY', TURNS .. queue, 'turn', 1)
end

local function load_of(queue, name)
  return tonumber(redis.call('HGET', LOAD .. queue, name) or 0)
end

local function add_load(queue, worker, slots, caller, host)
  for _, name in ipairs({
    'caller ' .. caller, 'host ' .. host, 'worker ' .. worker, 'at ' .. worker .. ' ' .. host,
  }) do
    if redis.call('HINCRBY', LOAD .. queue, name, slots) <= 0 then
      redis.call('HDEL', LOAD .. queue, name)
    end
  end
  if redis.call('ZSCORE', READY .. queue, caller) then
    redis.call('ZINCRBY', READY .. queue, time(slots * SLOT_SCORE), caller)
  end
end

-- The queue and the lane of a job. A lane has the ready jobs of one caller and priority.
local function place_of(job_id)
  local stored = redis.call('HMGET', JOB .. job_id, 'queue', 'caller', 'priority', 'host')
  local queue, caller = stored[1] or 'fetch', stored[2] or ''
  local lane = queue .. ' ' .. caller .. ' ' .. (stored[3] or NORMAL)
  return queue, caller, lane, stored[4] or ''
end

local function has_ready(queue, caller)
  for priority = LOW, HIGH do
    if redis.call('EXISTS', READY .. queue .. ' ' .. caller .. ' ' .. priority) == 1 then
      return true
    end
  end
  return false
end

local function make_ready(job_id)
  local queue, caller, lane, host = place_of(job_id)
  redis.call('HSETNX', JOB .. job_id, 'waits_since', time(now))
  local turn = next_turn(queue)
  redis.call('ZREM', DEADLINES, job_id)
  redis.call('HSETNX', JOB .. job_id, 'age', turn)
  redis.call('ZADD', READY .. lane .. ' ' .. host, field(job_id, 'age'), job_id)
  redis.call('ZADD', READY .. lane, 'NX', turn, host)
  local score = load_of(queue, 'caller ' .. caller) * SLOT_SCORE + turn
  redis.call('ZADD', READY .. queue, 'NX', time(score), caller)
  running.note_limit(queue, caller, job_id)
end

local function remove_ready(job_id, queue, caller, lane, host)
  if redis.call('ZREM', READY .. lane .. ' ' .. host, job_id) == 0
    or redis.call('EXISTS', READY .. lane .. ' ' .. host) == 1 then
    return
  end
  redis.call('ZREM', READY .. lane, host)
  if not has_ready(queue, caller) then
    redis.call('ZREM', READY .. queue, caller)
    redis.call('HDEL', TURNS .. queue, 'passed ' .. caller)
    running.forget_limit(queue, caller)
  end
end

local function make_unready(job_id)
  remove_ready(job_id, place_of(job_id))
end

-- Without `slots` these are as many as the job costs.
local function take_slots(job_id, worker, slots)
  local queue, caller, _, host = place_of(job_id)
  slots = slots or tonumber(field(job_id, 'cost') or 1)
  if slots == 0 then
    slots = tonumber(redis.call('HGET', SLOTS .. queue, worker) or 1)
  end
  redis.call('HSET', HELD .. queue, job_id, table.concat({ worker, slots, caller, host }, ' '))
  add_load(queue, worker, slots, caller, host)
  running.count(caller, 1)
end

-- How many slots of the worker the job holds; nil if none.
local function slots_held(job_id, worker)
  local held = redis.call('HGET', HELD .. place_of(job_id), job_id)
  if held then
    local holder, slots = string.match(held, '^(%S*) (%d+) ')
    return holder == worker and tonumber(slots) or nil
  end
  return nil
end

-- Returns the queue and the worker whose slots the job held, or nil.
local function free_slots(job_id)
  return_permit(job_id)
  for _, queue in ipairs(QUEUES) do
    local held = redis.call('HGET', HELD .. queue, job_id)
    if held then
      local worker, slots, caller, host = string.match(held, '^(%S*) (%d+) (%S*) (%S*)$')
      redis.call('HDEL', HELD .. queue, job_id)
      add_load(queue, worker, -tonumber(slots), caller, host)
      running.count(caller, -1)
      return queue, worker
    end
  end
  return nil
end

-- A worker that is not announced gets no jobs. Until another one takes its place, its slots count as free:
-- the jobs that it gave back must find room elsewhere.
local function forget_worker(queue, worker)
  local slots = redis.call('HGET', SLOTS .. queue, worker)
  if slots then
    redis.call('HSET', LEFT .. queue, worker, slots)
    redis.call('PEXPIRE', LEFT .. queue, LEFT_LIFETIME)
  end
  redis.call('HDEL', SLOTS .. queue, worker)
  redis.call('ZREM', SLOTS_UNTIL .. queue, worker)
end

local function living_workers(queue)
  local expired = redis.call('ZRANGEBYSCORE', SLOTS_UNTIL .. queue, '-inf', time(now))
  for _, worker in ipairs(expired) do
    forget_worker(queue, worker)
    -- The messages that it has not received, if this Redis is the broker.
    redis.call('DEL', PREFIX .. 'queue:ingot.' .. worker)
  end
  local workers, total, free = {}, 0, 0
  for _, key in ipairs({ SLOTS, LEFT }) do
    local stored = redis.call('HGETALL', key .. queue)
    for i = 1, #stored, 2 do
      local slots = tonumber(stored[i + 1])
      local worker = {
        name = stored[i], slots = slots, free = slots - load_of(queue, 'worker ' .. stored[i]),
      }
      total, free = total + slots, free + worker.free
      if key == SLOTS then
        workers[#workers + 1] = worker
      end
    end
  end
  local is_shared = queue ~= RESERVED and total >= SHARED_FROM
  return workers, { queue = queue, is_shared = is_shared, total = total, free = free }
end

local function has_more_than_half(room)
  local stored = redis.call('HGETALL', LOAD .. room.queue)
  for i = 1, #stored, 2 do
    if string.sub(stored[i], 1, 7) == 'caller ' and 2 * tonumber(stored[i + 1]) > room.total then
      return true
    end
  end
  return false
end

-- Whether one that holds some slots may take more, so that enough stay free for those that hold none. While
-- a caller holds more than half of the slots, one slot that stays free is enough for the others.
local function may_take(held, share, slots, room)
  return held == 0 or not room.is_shared or held + slots <= share * (room.free - slots)
    or (room.free - slots > 0 and 2 * (held + slots) <= room.total and has_more_than_half(room))
end

-- The worker with the most free slots that may run the job, and how many of them it takes; nil if there is
-- none. The job of a caller that holds no slot is content with one, or with the place in reserve.
local function choose_worker(workers, queue, job_id, caller, host, jobs_per_host)
  local cost, chosen, reserve = tonumber(field(job_id, 'cost') or 1), nil, nil
  for _, worker in ipairs(workers) do
    local needed = cost == 0 and worker.slots or cost
    if worker.free > 0 and worker.free >= needed and (not chosen or worker.free > chosen.free)
      and (host == '' or jobs_per_host == 0
        or load_of(queue, 'at ' .. worker.name .. ' ' .. host) < jobs_per_host) then
      chosen = worker
    end
    if worker.free >= 0 and (not reserve or worker.free > reserve.free) then
      reserve = worker
    end
  end
  if chosen then
    return chosen, cost == 0 and chosen.slots or cost
  elseif queue == RESERVED and load_of(queue, 'caller ' .. caller) == 0 then
    return reserve, 1
  end
  return nil
end

-- Whether the source of the job lets it start now. `gates` has what is known of sources in this call:
-- the limits, and until when and why they let nobody start.
local function is_let_in(job_id, gates)
  local name = field(job_id, 'source') or ''
  if name == '' then
    return true
  end
  if not gates[name] then
    local limits = announced_limits(name)
    local wait, cause = nil, nil
    if limits then
      wait, cause = wait_for_permit(name, limits)
    end
    gates[name] = { limits = limits, wait = wait, cause = cause }
  end
  local gate = gates[name]
  if gate.cause == 'open' then
    -- A job that has waited for too long runs without a permit: its worker ends it.
    local since = tonumber(field(job_id, 'waits_since')) or now
    since = math.max(since, source_number(name, 'open_since'))
    return now - since >= gate.limits.wait_timeout_ms
  end
  return not gate.cause
end

-- Gives a dispatched job the permit of its source, until its worker has claimed it and uses it.
local function give_permit_of(job_id, gates)
  local name = field(job_id, 'source') or ''
  local gate = gates[name]
  if not gate or not gate.limits or gate.cause then
    return
  end
  give_permit(name, job_id, gate.limits, now + arg.deadline + gate.limits.permit_ms)
  redis.call('HSET', JOB .. job_id, 'permit', name)
  redis.call('HDEL', JOB .. job_id, 'waits_since')
  gates[name] = nil
end

local function most_slots(workers)
  local most = 1
  for _, worker in ipairs(workers) do
    most = math.max(most, worker.slots)
  end
  return most
end

-- Whether the caller and the host of a job may take its slots.
local function has_room(queue, caller, host, job_id, workers, room)
  local slots = tonumber(field(job_id, 'cost') or 1)
  if slots == 0 then
    slots = most_slots(workers)
  end
  return may_take(load_of(queue, 'caller ' .. caller), CALLER_SHARE, slots, room)
    and (host == '' or may_take(load_of(queue, 'host ' .. host), HOST_SHARE, slots, room))
end

-- The first ready job of a lane that may run, its host, its worker and the slots that it takes; nil if there
-- is none. If a job needs all slots of a worker, and has to wait until one is idle, there is no worker.
local function pick_from_lane(queue, caller, lane, workers, room, gates)
  local at = 0
  while true do
    local hosts = redis.call('ZRANGE', READY .. lane, at, at + PAGE - 1)
    for _, host in ipairs(hosts) do
      local job_id = redis.call('ZRANGE', READY .. lane .. ' ' .. host, 0, 0)[1]
      while job_id and redis.call('EXISTS', JOB .. job_id) == 0 do
        remove_ready(job_id, queue, caller, lane, host)
        job_id = redis.call('ZRANGE', READY .. lane .. ' ' .. host, 0, 0)[1]
      end
      if job_id and has_room(queue, caller, host, job_id, workers, room)
        and is_let_in(job_id, gates) then
        local worker, slots =
          choose_worker(workers, queue, job_id, caller, host, tonumber(arg.jobs_per_host))
        if worker or field(job_id, 'cost') == '0' then
          return job_id, host, worker, slots
        end
      end
    end
    if #hosts < PAGE then
      return nil
    end
    at = at + PAGE
  end
end

local function priorities_for(queue, caller)
  local passed = tonumber(redis.call('HGET', TURNS .. queue, 'passed ' .. caller) or 0)
  if passed >= LOW_EACH - 1 then
    return { LOW, HIGH, NORMAL }
  end
  return { HIGH, NORMAL, LOW }
end

local function has_free_slot(workers, least)
  for _, worker in ipairs(workers) do
    if worker.free >= least then
      return true
    end
  end
  return false
end

-- The caller with the fewest slots comes first. `skipped` are those that have nothing that may run.
local function pick(queue, workers, room, skipped, gates)
  local at = 0
  while true do
    local callers = redis.call('ZRANGE', READY .. queue, at, at + PAGE - 1)
    for _, caller in ipairs(callers) do
      local held = load_of(queue, 'caller ' .. caller)
      if not may_take(held, CALLER_SHARE, 1, room) or (held > 0 and not has_free_slot(workers, 1)) then
        return nil
      end
      skipped[caller] = skipped[caller] or running.is_at_limit(queue, caller)
      for _, priority in ipairs(skipped[caller] and {} or priorities_for(queue, caller)) do
        local lane = queue .. ' ' .. caller .. ' ' .. priority
        local job_id, host, worker, slots = pick_from_lane(queue, caller, lane, workers, room, gates)
        if worker then
          return { id = job_id, caller = caller, priority = priority, lane = lane, host = host,
            worker = worker, slots = slots }
        elseif job_id then
          return nil
        end
      end
      skipped[caller] = true
    end
    if #callers < PAGE then
      return nil
    end
    at = at + PAGE
  end
end

local function note_turn(queue, picked)
  local turn = next_turn(queue)
  if redis.call('ZSCORE', READY .. picked.lane, picked.host) then
    redis.call('ZADD', READY .. picked.lane, turn, picked.host)
  end
  if redis.call('ZSCORE', READY .. queue, picked.caller) then
    local score = load_of(queue, 'caller ' .. picked.caller) * SLOT_SCORE + turn
    redis.call('ZADD', READY .. queue, time(score), picked.caller)
  end
  local passed = 'passed ' .. picked.caller
  if picked.priority == LOW then
    redis.call('HDEL', TURNS .. queue, passed)
  elseif redis.call('EXISTS', READY .. queue .. ' ' .. picked.caller .. ' ' .. LOW) == 1 then
    redis.call('HINCRBY', TURNS .. queue, passed, 1)
  end
end

local function dispatch()
  local queue, dispatched, skipped, gates = id, {}, {}, {}
  local workers, room = living_workers(queue)
  while #dispatched < 2 * tonumber(arg.limit) do
    local picked = has_free_slot(workers, queue == RESERVED and 0 or 1)
      and pick(queue, workers, room, skipped, gates)
    if not picked then
      break
    end
    make_unready(picked.id)
    take_slots(picked.id, picked.worker.name, picked.slots)
    give_permit_of(picked.id, gates)
    local free = picked.worker.slots - load_of(queue, 'worker ' .. picked.worker.name)
    room.free = room.free - picked.worker.free + free
    picked.worker.free = free
    note_turn(queue, picked)
    redis.call('ZADD', DEADLINES, time(now + arg.deadline), picked.id)
    dispatched[#dispatched + 1] = picked.id
    dispatched[#dispatched + 1] = picked.worker.name
  end
  local next_wait = -1
  for _, gate in pairs(gates) do
    if gate.wait and (next_wait < 0 or gate.wait < next_wait) then
      next_wait = gate.wait
    end
  end
  table.insert(dispatched, 1, time(next_wait))
  return dispatched
end

-- What a ready job waits for, apart from a worker.
local function waits_for()
  local queue, caller, lane, host = place_of(id)
  if not redis.call('ZSCORE', READY .. lane .. ' ' .. host, id) then
    return { 'nothing' }
  end
  if running.is_at_limit(queue, caller) then
    return { 'caller_limit' }
  end
  local ahead = redis.call('ZRANK', READY .. lane .. ' ' .. host, id)
  local name = field(id, 'source') or ''
  local limits = name ~= '' and announced_limits(name)
  if limits then
    local wait, cause = wait_for_permit(name, limits)
    if cause == 'open' then
      return { cause, name, time(wait), source_text(name, 'open_reason') }
    elseif cause == 'rate_limited' then
      return { cause, name, time(wait + ahead * limits.interval_ms), ahead }
    elseif cause then
      return { cause, name }
    end
  end
  local workers, room = living_workers(queue)
  local free, free_here = 0, 0
  for _, worker in ipairs(workers) do
    free = free + math.max(worker.free, 0)
    local here = load_of(queue, 'at ' .. worker.name .. ' ' .. host)
    if worker.free > 0 and (tonumber(arg.jobs_per_host) == 0 or here < tonumber(arg.jobs_per_host)) then
      free_here = free_here + 1
    end
  end
  if room.total == 0 then
    return { 'nothing' }
  elseif queue == 'convert' then
    return { 'conversion_limit', ahead }
  elseif host ~= '' and free > 0
    and (free_here == 0 or not may_take(load_of(queue, 'host ' .. host), HOST_SHARE, 1, room)) then
    return { 'host_limit', host, ahead }
  end
  return { 'nothing' }
end

local function announce()
  if redis.call('HSET', SLOTS .. arg.queue, id, arg.slots) == 1
    and redis.call('HDEL', LEFT .. arg.queue, id) == 0 then
    local left = redis.call('HKEYS', LEFT .. arg.queue)
    if left[1] then
      redis.call('HDEL', LEFT .. arg.queue, left[1])
    end
  end
  redis.call('ZADD', SLOTS_UNTIL .. arg.queue, time(now + arg.ttl), id)
  return { 'done' }
end

-- A worker stops: the jobs that were sent to it, and that it has not claimed, are ready again.
local function retire()
  forget_worker(arg.queue, id)
  local held = redis.call('HGETALL', HELD .. arg.queue)
  for i = 1, #held, 2 do
    local job_id = held[i]
    if string.match(held[i + 1], '^%S*') == id and field(job_id, 'token') == '' then
      free_slots(job_id)
      make_ready(job_id)
    end
  end
  return { 'done' }
end
