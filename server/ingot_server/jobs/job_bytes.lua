-- The bytes of the caller of a job. The parts before are arguments.lua and callers.lua, which documents the keys.
--
-- ARGV: the operation, the job's id, then pairs of an argument's name and value.
--   used_up  [receives: also that of bytes received in a day]
--            -> name of the limit, the limit: the caller of the job has reached it; else nothing
--   count    bytes expires_at -> done: the job has received so many bytes; they count until `expires_at`,
--            in seconds since 1970

local operations = {
  used_up = function()
    local caller, daily, stored = unpack(redis.call('HMGET', JOB .. id, 'caller', 'daily_bytes', 'stored_bytes'))
    local name = callers.bytes_used_up(caller, arg.receives and daily, stored)
    return name and { name, name == 'daily_bytes' and daily or stored } or {}
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
