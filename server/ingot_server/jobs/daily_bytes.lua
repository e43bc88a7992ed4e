-- The daily bytes of the caller of a job. The parts before are arguments.lua and callers.lua, which documents
-- the keys.
--
-- ARGV: the operation, the job's id, then pairs of an argument's name and value.
--   is_used_up -> the limit, if the caller of the job has reached it, else nothing
--   count      bytes expires_at -> done: the job has received so many bytes; they count until `expires_at`,
--              in seconds since 1970

local operations = {
  is_used_up = function()
    local caller, limit = unpack(redis.call('HMGET', JOB .. id, 'caller', 'daily_bytes'))
    return callers.has_all_daily_bytes(caller, limit) and { limit } or {}
  end,
  count = function()
    local caller, limit = unpack(redis.call('HMGET', JOB .. id, 'caller', 'daily_bytes'))
    if limit then
      redis.call('INCRBY', callers.DAILY_BYTES .. caller, arg.bytes)
      redis.call('EXPIREAT', callers.DAILY_BYTES .. caller, arg.expires_at)
    end
    return { 'done' }
  end,
}

return operations[operation]()
