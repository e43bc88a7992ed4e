-- Who wants a job: callers that have asked for it, and jobs that it is a part of, for as long as somebody wants
-- those. A caller without a name cannot be told from others, and is known only as the flag `shared`.
--
-- Keys.
--   ingot:askers:<job id>           hash    name of each caller that has asked for the job by itself before it
--                                           ended -> the highest priority that it asked for. It expires with
--                                           the record
--   ingot:job:<job id>              hash    shared      1 if a caller without a name wants this child, too

-- One table, because a script has room for 200 local variables.
local askers = { KEY = PREFIX .. 'askers:' }

local function parents_of(job_id)
  return string.gmatch(field(job_id, 'parents') or '', '%S+')
end

-- The caller of the operation wants the job, too.
function askers.add(job_id)
  if arg.asker ~= '' and not arg.parent and field(job_id, 'ended') == '0' then
    local key = askers.KEY .. job_id
    if redis.call('HSETNX', key, arg.asker, arg.priority) == 0
      and tonumber(redis.call('HGET', key, arg.asker)) < tonumber(arg.priority) then
      redis.call('HSET', key, arg.asker, arg.priority)
    end
  end
end

-- The highest priority that a caller wants. A part of a list keeps what it has.
function askers.priority()
  local highest = 0
  if not string.find(field(id, 'parents') or '', '%S') then
    for _, priority in ipairs(redis.call('HVALS', askers.KEY .. id)) do
      highest = math.max(highest, tonumber(priority))
    end
  end
  return highest > 0 and time(highest) or field(id, 'priority')
end

-- A job that is ready gets into the lane of its new priority before it leaves the other one, so that its caller
-- keeps its turn.
function askers.set_priority(priority)
  local queue, caller, lane, host = place_of(id)
  local is_ready = redis.call('ZSCORE', READY .. lane .. ' ' .. host, id)
  redis.call('HSET', JOB .. id, 'priority', priority)
  if is_ready then
    make_ready(id)
    remove_ready(id, queue, caller, lane, host)
  end
end

function askers.are_known(job_id)
  return redis.call('EXISTS', askers.KEY .. job_id) == 1
end

function askers.expire(job_id, ttl)
  redis.call('PEXPIRE', askers.KEY .. job_id, ttl)
end

-- Whether anyone wants the job apart from that parent of it.
function askers.share_with(parent)
  if field(id, 'shared') == '1' or askers.are_known(id) then
    return true
  end
  for other in parents_of(id) do
    if other ~= parent and field(other, 'ended') == '0' then
      return true
    end
  end
  return false
end

-- Whether a caller other than arg.withdraws wants the job.
function askers.have_another(job_id)
  local key = askers.KEY .. job_id
  if redis.call('HLEN', key) > redis.call('HEXISTS', key, arg.withdraws) then
    return true
  end
  for parent in parents_of(job_id) do
    if field(parent, 'ended') == '0' and askers.have_another(parent) then
      return true
    end
  end
  return false
end

-- The caller arg.withdraws does not want the job any more. Tells whether another one does.
function askers.withdraw()
  redis.call('HDEL', askers.KEY .. id, arg.withdraws)
  if not askers.have_another(id) then
    return false
  end
  if field(id, 'caller') == arg.caller then
    callers.uncount_job()
  end
  return true
end
