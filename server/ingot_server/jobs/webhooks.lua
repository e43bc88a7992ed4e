-- Who hears of the end of a job, and the deliveries that this makes: one for each URL, in the same write as the
-- end. `deliveries.lua` has what becomes of them.
--
-- Keys. All times are milliseconds of Redis' own clock.
--   ingot:webhooks:<job id>         set     URLs that callers of the job gave. It expires with the record
--   ingot:webhook-delivery:<id>     hash    url         of the receiver; empty for that of the settings
--                                           host        of the URL with its port; empty as above
--                                           body        what is sent
--                                           state       a number of WebhookDelivery.State
--                                           create_time when it was made
--                                           since       when it was made or replayed last
--                                           attempts    number of attempts since then
--                                           run         number of all attempts. It only grows
--                                           problem     of the last attempt
--                                           due         when the next attempt is due, while it is pending
--                                           end_time    when it was accepted or given up
--                                           group       the object in the bucket that has it; unset if none
--                                           trace       that of its job; unset if the job is not traced
--   ingot:webhook-deliveries        zset    ids of all deliveries, all with score 0: sorted by id, so by job
--   ingot:webhook-deliveries:<state>  zset  those in one state, in the same way
--   ingot:webhook-due               zset    ids of pending deliveries, scored by when a worker may send them
--   ingot:webhook-unwritten         zset    ids of pending deliveries that no object in `webhooks/` has, scored
--                                           by since when
--
-- Invariants. The id of a delivery follows from the job and the URL, so a job that is made again after Redis was
-- lost makes the same ones. A pending delivery is in the bucket: in the entry of its job until the job has ended,
-- in the group of the job's end while that is kept, in an object of its own after that. For the last of them,
-- groups of ends stay in the bucket while a delivery is unwritten for longer than UNWRITTEN_AGE.

local WEBHOOKS = PREFIX .. 'webhooks:'
local DELIVERY, DELIVERIES = PREFIX .. 'webhook-delivery:', PREFIX .. 'webhook-deliveries'
local WEBHOOK_DUE, WEBHOOK_UNWRITTEN = PREFIX .. 'webhook-due', PREFIX .. 'webhook-unwritten'
local PENDING = '1'
-- Less than journal_index.py keeps ends for, and more than webhook_deliveries.py takes to write a delivery.
local UNWRITTEN_AGE = 90000
local WEBHOOKS_PER_JOB = 100

local function set_delivery_state(delivery, state)
  local former = redis.call('HGET', DELIVERY .. delivery, 'state')
  if former then
    redis.call('ZREM', DELIVERIES .. ':' .. former, delivery)
  end
  redis.call('HSET', DELIVERY .. delivery, 'state', state)
  redis.call('ZADD', DELIVERIES .. ':' .. state, 0, delivery)
end

local function make_delivery(delivery, url, body, created, trace)
  if redis.call('EXISTS', DELIVERY .. delivery) == 1 then
    return
  end
  redis.call('HSET', DELIVERY .. delivery, 'url', url, 'host', string.match(url, '://([^/?#]+)') or '',
    'body', body, 'create_time', created, 'since', created, 'attempts', 0, 'run', 0, 'problem', '',
    'due', time(now))
  if trace then
    redis.call('HSET', DELIVERY .. delivery, 'trace', trace)
  end
  set_delivery_state(delivery, PENDING)
  redis.call('ZADD', DELIVERIES, 0, delivery)
  redis.call('ZADD', WEBHOOK_DUE, time(now), delivery)
  redis.call('ZADD', WEBHOOK_UNWRITTEN, time(now), delivery)
end

local function add_webhooks(job_id)
  for url in string.gmatch(arg.webhook_urls or '', '%S+') do
    redis.call('SADD', WEBHOOKS .. job_id, url)
  end
end

-- Whether the job has no room for the webhook of another caller.
local function has_enough_webhooks(job_id)
  for url in string.gmatch(arg.webhook_urls or '', '%S+') do
    if redis.call('SISMEMBER', WEBHOOKS .. job_id, url) == 0
      and redis.call('SCARD', WEBHOOKS .. job_id) >= WEBHOOKS_PER_JOB then
      return true
    end
  end
  return false
end

-- Whether the entry of the job in the journal has all of its webhooks.
local function journal_has_webhooks(job_id)
  return tonumber(field(job_id, 'journal_webhooks') or 0) >= redis.call('SCARD', WEBHOOKS .. job_id)
end

-- The job has ended.
local function make_deliveries()
  local trace = field(id, 'trace')
  for _, url in ipairs(redis.call('SMEMBERS', WEBHOOKS .. id)) do
    make_delivery(id .. '-' .. string.sub(redis.sha1hex(url), 1, 16), url, arg.webhook_body, time(now), trace)
  end
  if arg.tells_operator == '1' then
    make_delivery(id .. '-operator', '', arg.webhook_body, time(now), trace)
  end
end

local function ends_must_stay()
  local oldest = redis.call('ZRANGE', WEBHOOK_UNWRITTEN, 0, 0, 'WITHSCORES')
  return oldest[2] and tonumber(oldest[2]) <= now - UNWRITTEN_AGE
end
