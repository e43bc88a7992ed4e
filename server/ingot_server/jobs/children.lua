-- Jobs whose children are jobs: lists and workflows. A parent waits for its children without a worker, and has
-- counts of them.
--
-- Keys. All times are milliseconds of Redis' own clock.
--   ingot:job:<job id>              hash    further fields of those in transition.lua:
--                                           parents     ids of the jobs it is a child of, each followed
--                                                       by a space
--                                           waits_for_children  1 if it is RUNNING without a worker
--                                           rollup_at   when its counts may be written again
--   ingot:entries:<job id>          hash    its children: entry -> job id
--   ingot:child-counts:<job id>     hash    total, succeeded, failed, cancelled, cached, bytes (received
--                                           by ended children), version (grows with every change)
--   ingot:child-progress:<job id>   hash    running child -> "bytes done, bytes per second, fraction",
--                                           separated by spaces
--   ingot:undispatched:<job id>     zset    children that were not dispatched yet, by order of entries
--
-- Lifetimes. Keys of a job that has not ended never expire. When it ends, all its keys get a time to
-- live, and its members of the sorted sets are removed by a later end. An ended child lives at least
-- as long as its parents. A cancelled parent stays in the deadlines until its children are cancelled
-- (`settle`).

local ENTRIES, COUNTS = PREFIX .. 'entries:', PREFIX .. 'child-counts:'
local PROGRESS, UNDISPATCHED = PREFIX .. 'child-progress:', PREFIX .. 'undispatched:'
-- How much longer than its parent a child lives, in milliseconds.
local CHILD_EXTRA_TTL = 60000

-- Makes a child ready that waited for its turn, unless it was claimed or has ended meanwhile.
local function send_child(child)
  local stored = redis.call('HMGET', JOB .. child, 'ended', 'token', 'waits_for_children')
  if stored[1] == '0' and stored[2] == '' and stored[3] ~= '1' then
    make_ready(child)
  end
end

local function has_living_parent(job_id)
  for parent in parents_of(job_id) do
    if field(parent, 'ended') == '0' or has_living_parent(parent) then
      return true
    end
  end
  return false
end

local function expire(job_id, ttl)
  redis.call('PEXPIRE', JOB .. job_id, ttl)
  redis.call('PEXPIRE', trail.KEY .. job_id, ttl)
  askers.expire(job_id, ttl)
  expire_requests(job_id, ttl)
  redis.call('ZADD', EXPIRING, time(now + ttl), job_id)
  for _, child in ipairs(redis.call('HVALS', ENTRIES .. job_id)) do
    if field(child, 'ended') == '1' and not has_living_parent(child) then
      expire(child, ttl + CHILD_EXTRA_TTL)
    end
  end
  redis.call('PEXPIRE', ENTRIES .. job_id, ttl + CHILD_EXTRA_TTL)
  redis.call('PEXPIRE', COUNTS .. job_id, ttl)
end

-- The response for an entry of arg.parent that has its job already, else nil.
local function find_entry()
  if not arg.parent then
    return nil
  end
  if field(arg.parent, 'token') ~= arg.parent_token then
    return { 'orphaned' }
  end
  local child = redis.call('HGET', ENTRIES .. arg.parent, arg.entry)
  return child and field(child, 'record') and existing(child) or nil
end

-- Makes a waiting parent overdue as soon as its counts may be written again.
local function wake(parent)
  local stored = redis.call('HMGET', JOB .. parent, 'waits_for_children', 'rollup_at')
  local deadline = redis.call('ZSCORE', DEADLINES, parent)
  if stored[1] == '1' and deadline then
    local wanted = math.max(now, tonumber(stored[2]))
    if tonumber(deadline) > wanted then
      redis.call('ZADD', DEADLINES, time(wanted), parent)
    end
  end
end

local function notify(parent)
  local counts = COUNTS .. parent
  if arg.ended == '1' then
    redis.call('HDEL', PROGRESS .. parent, id)
    redis.call('ZREM', UNDISPATCHED .. parent, id)
    redis.call('HINCRBY', counts, arg.outcome, 1)
    redis.call('HINCRBY', counts, 'cached', arg.cached)
    redis.call('HINCRBY', counts, 'bytes', arg.bytes)
  elseif arg.progress and arg.progress ~= '' then
    redis.call('HSET', PROGRESS .. parent, id, arg.progress)
  elseif redis.call('HDEL', PROGRESS .. parent, id) == 0 then
    return
  end
  redis.call('HINCRBY', counts, 'version', 1)
  wake(parent)
end

local function notify_parents()
  for parent in parents_of(id) do
    if field(parent, 'ended') == '0' then
      notify(parent)
    end
  end
end

-- Whether `other` is the job, or waits for its end, perhaps by way of other jobs.
local function is_awaited_by(job_id, other, seen)
  if job_id == other then
    return true
  end
  seen = seen or {}
  if seen[job_id] then
    return false
  end
  seen[job_id] = true
  for parent in parents_of(job_id) do
    if is_awaited_by(parent, other, seen) then
      return true
    end
  end
  for _, follower in ipairs(redis.call('ZRANGE', FOLLOWERS .. job_id, 0, -1)) do
    if is_awaited_by(follower, other, seen) then
      return true
    end
  end
  return false
end

-- Makes the job a child of arg.parent. Returns false if it was one already, for another entry.
local function join(job_id)
  redis.call('HSET', ENTRIES .. arg.parent, arg.entry, job_id)
  local parents = field(job_id, 'parents') or ''
  if string.find(parents, arg.parent, 1, true) then
    return false
  end
  redis.call('HSET', JOB .. job_id, 'parents', parents .. arg.parent .. ' ')
  -- It was made for a caller of its own.
  if job_id ~= id and parents == '' and not askers.are_known(job_id) then
    redis.call('HSET', JOB .. job_id, 'shared', 1)
  end
  redis.call('HINCRBY', COUNTS .. arg.parent, 'total', 1)
  redis.call('HINCRBY', COUNTS .. arg.parent, 'version', 1)
  return true
end

-- A child waits for its turn no longer.
local function bring_forward(job_id)
  local waited = false
  for parent in parents_of(job_id) do
    waited = redis.call('ZREM', UNDISPATCHED .. parent, job_id) == 1 or waited
  end
  if waited then
    send_child(job_id)
  end
end

-- Another caller or parent wants the job.
local function share(job_id)
  if not arg.parent and arg.asker == '' and parents_of(job_id)() then
    redis.call('HSET', JOB .. job_id, 'shared', 1)
  end
  bring_forward(job_id)
end

-- A waiting job is checked again when its counts change, which they may have done since they were
-- read.
local function rest()
  redis.call('HSET', JOB .. id, 'rollup_at', time(now + arg.rollup_interval))
  if redis.call('HGET', COUNTS .. id, 'version') == arg.counts_version then
    set_deadline(arg.deadline)
  else
    set_deadline(arg.rollup_interval)
  end
end

-- At most arg.limit children are ready or run; the others wait here.
local function advance()
  if field(id, 'waits_for_children') ~= '1' then
    return { 0 }
  end
  local counts = redis.call('HMGET', COUNTS .. id, 'total', 'succeeded', 'failed', 'cancelled')
  local begun = (counts[1] or 0) - (counts[2] or 0) - (counts[3] or 0) - (counts[4] or 0)
    - redis.call('ZCARD', UNDISPATCHED .. id)
  local free = tonumber(arg.limit) - begun
  if free <= 0 then
    return { 0 }
  end
  local children = redis.call('ZRANGE', UNDISPATCHED .. id, 0, free - 1)
  for _, child in ipairs(children) do
    redis.call('ZREM', UNDISPATCHED .. id, child)
    send_child(child)
  end
  return { #children }
end

local function detach()
  if field(id, 'token') ~= arg.token then
    return { 'lost' }
  end
  for _, child in ipairs(redis.call('HVALS', ENTRIES .. id)) do
    local parents = field(child, 'parents')
    if parents then
      redis.call('HSET', JOB .. child, 'parents', (string.gsub(parents, id .. ' ', '')))
      if field(child, 'ended') == '1' and not has_living_parent(child) then
        expire(child, tonumber(arg.ttl))
      end
    end
  end
  redis.call('DEL', ENTRIES .. id, COUNTS .. id, PROGRESS .. id, UNDISPATCHED .. id)
  return { 'done' }
end
