-- Which job a request id and an upload id have led to, so that a repeated call gets the same job.
--
-- Keys.
--   ingot:request:<request id>      hash    job_id, fingerprint: the job and the request it was used for
--   ingot:requests:<job id>         set     the request ids that led to the job
--   ingot:upload:<upload id>        string  id of the last job of the upload with this stored id
--   ingot:job-uploads:<job id>      set     the ids of the uploads that led to the job

local REQUEST, REQUESTS = PREFIX .. 'request:', PREFIX .. 'requests:'
local UPLOAD, UPLOADS = PREFIX .. 'upload:', PREFIX .. 'job-uploads:'

local function remember_upload(job_id)
  if arg.upload_id and arg.upload_id ~= '' then
    redis.call('SET', UPLOAD .. arg.upload_id, job_id)
    redis.call('SADD', UPLOADS .. job_id, arg.upload_id)
  end
end

local function remember_request(job_id)
  remember_upload(job_id)
  if arg.request_id ~= '' then
    local key = REQUEST .. arg.request_id
    redis.call('HSET', key, 'job_id', job_id, 'fingerprint', arg.fingerprint)
    redis.call('PERSIST', key)
    redis.call('SADD', REQUESTS .. job_id, arg.request_id)
  end
end

local function existing(job_id)
  local group = journal_has_webhooks(job_id) and field(job_id, 'journal')
  return { 'existing', field(job_id, 'record'), group or '', field(job_id, 'trace') or '' }
end

-- The response for a request id that has its job already, else nil.
local function find_request()
  if arg.request_id == '' then
    return nil
  end
  local used = redis.call('HMGET', REQUEST .. arg.request_id, 'job_id', 'fingerprint')
  if not used[1] or not field(used[1], 'record') then
    return nil
  end
  if used[2] ~= arg.fingerprint then
    return { 'request_id_reused', used[1] }
  end
  askers.add(used[1])
  return existing(used[1])
end

-- The response for an upload that has a job, unless that has failed or was cancelled; else nil.
local function find_upload()
  if not arg.upload_id or arg.upload_id == '' then
    return nil
  end
  local job_id = redis.call('GET', UPLOAD .. arg.upload_id)
  local state = job_id and tonumber(field(job_id, 'state') or nil)
  if not state or state == FAILED or state == CANCELLED then
    return nil
  end
  if field(job_id, 'ended') == '0' then
    askers.add(job_id)
    remember_request(job_id)
  end
  return existing(job_id)
end

local function forget_requests()
  for _, request in ipairs(redis.call('SMEMBERS', REQUESTS .. id)) do
    redis.call('DEL', REQUEST .. request)
  end
  redis.call('DEL', REQUESTS .. id)
  for _, upload in ipairs(redis.call('SMEMBERS', UPLOADS .. id)) do
    if redis.call('GET', UPLOAD .. upload) == id then
      redis.call('DEL', UPLOAD .. upload)
    end
  end
  redis.call('DEL', UPLOADS .. id)
end

local function expire_requests(job_id, ttl)
  redis.call('PEXPIRE', WEBHOOKS .. job_id, ttl)
  redis.call('PEXPIRE', REQUESTS .. job_id, ttl)
  for _, request in ipairs(redis.call('SMEMBERS', REQUESTS .. job_id)) do
    redis.call('PEXPIRE', REQUEST .. request, ttl)
  end
  redis.call('PEXPIRE', UPLOADS .. job_id, ttl)
  for _, upload in ipairs(redis.call('SMEMBERS', UPLOADS .. job_id)) do
    if redis.call('GET', UPLOAD .. upload) == job_id then
      redis.call('PEXPIRE', UPLOAD .. upload, ttl)
    end
  end
end
