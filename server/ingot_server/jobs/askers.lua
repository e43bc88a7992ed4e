-- Who wants a job: callers that have asked for it, and jobs that it is a part of, for as long as somebody wants
-- those. A caller without a name cannot be told from others, and is known only as the flag `shared`.
--
-- Keys.
--   ingot:askers:<job id>           set     names of the callers that have asked for the job by itself before it
--                                           ended. It expires with the record
--   ingot:job:<job id>              hash    shared      1 if a caller without a name wants this child, too

-- One table, because a script has room for 200 local variables.
local askers = { KEY = PREFIX .. 'askers:' }

local function parents_of(job_id)
  return string.gmatch(field(job_id, 'parents') or '', '%S+')
end

-- The caller of the operation wants the job, too.
function askers.add(job_id)
  if arg.asker ~= '' and not arg.parent and field(job_id, 'ended') == '0' then
    redis.call('SADD', askers.KEY .. job_id, arg.asker)
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
  if redis.call('SCARD', key) > redis.call('SISMEMBER', key, arg.withdraws) then
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
  redis.call('SREM', askers.KEY .. id, arg.withdraws)
  if not askers.have_another(id) then
    return false
  end
  if field(id, 'caller') == arg.caller then
    callers.uncount_job()
  end
  return true
end
