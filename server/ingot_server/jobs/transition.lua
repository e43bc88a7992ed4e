-- The only way to change a job in Redis. One call of this script is one atomic operation. This is its
-- last part. The others are, in this order, arguments.lua, permits.lua, running_jobs.lua, dispatch.lua,
-- followers.lua, webhooks.lua, journal.lua, history.lua, callers.lua, askers.lua, requests.lua and children.lua.
-- Each documents its keys.
--
-- Keys. All times are milliseconds of Redis' own clock.
--   ingot:job:<job id>              hash    record      the serialized Job
--                                           revision    Job.revision
--                                           ended       1 if the job has ended, else 0
--                                           single_flight_key  the key that the job holds; empty if none
--                                           token       fencing token of the lease; empty without a lease
--                                           run         number of the last claim. It only grows, and
--                                                       jumps when Redis has lost writes
--                                           run_epoch   the epoch that the run belongs to
--                                           wanted_key  the single-flight key that another job held when
--                                                       this one was made again
--                                           losses      how many workers the job has lost
--                                           not_before  when a worker may claim the job
--                                           unstored    1 if nothing was stored for its media item when
--                                                       it got the single flight
--                                           change_id   id of the last change
--                                           recheck_at  its deadline while a worker recovers it
--                                           trace       the span that made the job, a W3C traceparent; unset
--                                                       if it is not traced
--                                           attempt_trace  the span of its last attempt, in the same way
--   ingot:schema-version            string  see redis_schema.py
--   ingot:active:<key>              string  id of the job that holds this single-flight key: the media
--                                           id, or what stands for it (see `single_flight_key`)
--   ingot:ended-flight:<key>        string  id of the last job that held this single-flight key to its end.
--                                           Lives for a minute, which is longer than a call takes from
--                                           a look into the bucket to `create`
--   ingot:deadlines                 zset    ids of the jobs that wait for a time, scored by when the
--                                           sweep must check them: a lease expires, a message counts
--                                           as lost, a retry is due, children have changed
--
-- ARGV: the operation, the job's id, then pairs of an argument's name and value. Arguments in brackets
-- are optional; durations are in milliseconds.
-- A job that is `unlisted` is in none of the sets that lists and counts are made of, and its removal
-- is not published. A job with a `tenant` counts for that, too.
-- `schema` is the version of the caller, see redis_schema.py: `create`, `recreate` and `announce` also return
-- other_schema, the version of what is in Redis.
--   create   schema epoch change_id record revision state ended unlisted ttl deadline single_flight_key request_id fingerprint
--            queue host source priority cost
--            [caller; jobs queued_jobs running_jobs daily_bytes stored_bytes: its limits]
--            webhook_body tells_operator [webhook_urls] asker: the name of the caller; empty if it has none
--            [upload_id] [outcome cached bytes parent parent_token entry order: a child of `parent`]
--            [restored: only if the journal is restored]
--            [unstored: the bucket had nothing for the media item, whose id is the single-flight key, a few seconds ago]
--            [trace]
--            -> created, record | existing, record, group of the journal or empty, trace or empty
--               | request_id_reused, job id
--               | orphaned | circular | unrestored | too_many_webhooks
--               | used_up, name of the limit of the caller that the job would exceed
--               | epoch, current epoch: the record must be made for that epoch
--   recreate the same arguments, without a parent, and `before` -> created, record | existing, record
--            | late: it is `before` or later | epoch: makes a job of the journal again
--   change   epoch change_id record revision state ended unlisted ttl deadline next_token milestone
--            webhook_body tells_operator
--            [outcome cached bytes progress: for the parents' counts]
--            [expected_revision token overdue claimable in_group: conditions]
--            [proves: only if it is certain that the job has not ended]
--            [passed, passed_1, ...: how many versions the job has passed through since, and their records]
--            [unshared: only if nobody wants the job apart from that parent of it]
--            [withdraws caller: only if nobody but the caller of that name wants the job. Its wish is withdrawn in
--            any case, and the job does not count for `caller` any more]
--            [wanted_priority: only if that is the highest that a caller wants]
--            [losses delay worker waits_for_children (while RUNNING) rollup_interval counts_version: values;
--            priority: the job has another one now;
--            keeps_place: the job and its lease stay as they are;
--            follows: the job is ready when that other job has ended;
--            a `worker` claims the job with one of its slots, or without one if it is empty]
--            [forget_requests: the request ids and the uploads of the job can be used again]
--            [single_flight_key: the job moves to this key, unless another job holds it]
--            -> done, record, run, wanted_key, id of the job that it has followed, unstored, trace,
--               attempt_trace, daily_bytes, stored_bytes
--               | gone | lost | early | unrestored: Redis may have lost that the job ended
--               | wanted, record, their highest priority: others want the job | stale | taken, id of the job that holds the key
--               | circular: the job to follow waits for this one | epoch, current epoch
--   restore  epoch change_id record revision unlisted expected_revision -> done, record | gone | stale | epoch,
--            current epoch: writes the record of a job again whose last changes were lost
--   epoch    after -> epoch: begins a new epoch unless the current one is later than `after`
--   count    [tenant] -> the number of jobs, or of those of a tenant, in each state of JobState, from 1
--   since    limit [known_epoch known_sequence: a position of the caller]
--            -> found | lost, epoch, sequence, ids of changed jobs, ids of removed jobs and their numbers
--   renew    token deadline [proves] [attempt_trace: the value] -> done | gone | lost | unrestored: Redis may have lost that the job ended
--   sweep    limit recheck -> ids of jobs past their deadline that the caller must recover
--   dispatch limit deadline jobs_per_host; the id is that of a queue
--            -> milliseconds until a source lets a job start, or -1; ids of the jobs that are dispatched
--               now, each followed by its worker
--   waits    jobs_per_host -> nothing | caller_limit | open, source, milliseconds, reason | rate_limited, source,
--            milliseconds, jobs ahead | concurrency_limited, source | host_limit, host, jobs ahead
--            | conversion_limit, jobs ahead: what a ready job waits for
--   announce schema queue slots ttl; the id is that of a worker -> done: the worker runs jobs of the queue
--   retire   queue; the id is that of a worker -> done
--   forget   -> done: removes a job without a record from the sorted sets
--   children -> names and values of the counts, list of the progress, list of the children
--   rest     deadline rollup_interval counts_version -> done: the counts of a waiting job are unchanged
--   advance  limit -> how many more children of a waiting job are ready now
--   settle   -> done: the children of a cancelled job are cancelled
--   detach   token ttl -> done | lost: the job continues as if it never had children
--   journal_state  [known_epoch known_sequence] -> epoch, sequence, 1 if the journal is restored, else 0
--   journal_restored  epoch -> done: the journal is restored, unless writes were lost since
--   journal_note  jobs, each as its id or `<id>/<number of its webhooks in the group>`; the id is that of a group
--            -> done | gone: a job has no record
--   journal_note_ends  jobs keep; the id is that of a group -> jobs that have not ended on record; without
--            any, the group is noted
--   journal_ended  limit interval recheck [again] -> jobs whose ends must be written to the bucket now
--   journal_unknown  groups -> the time, the groups that are not known
--   journal_partial  limit age -> jobs of groups whose other jobs have ended
--   journal_due  limit interval recheck [again] -> groups to remove from the bucket now
--   journal_removed  groups -> jobs whose entries were in one of them
--   journal_needed  groups -> those that have a job that has not ended
-- A change that is repeated because its response was lost gets the same response again.

-- One table, because a script has room for 200 local variables.
local flights = { ACTIVE = PREFIX .. 'active:', ENDED = PREFIX .. 'ended-flight:', ENDED_LIFETIME = 60000 }

function flights.note_end(key)
  if arg.unlisted ~= '1' then
    redis.call('SET', flights.ENDED .. key, id, 'PX', flights.ENDED_LIFETIME)
  end
end

local function finish(key)
  redis.call('ZREM', DEADLINES, id)
  callers.uncount_job()
  leave_journal(id)
  make_unready(id)
  stop_following(id)
  wake_followers(id)
  leave_source(id)
  if key ~= '' and redis.call('GET', flights.ACTIVE .. key) == id then
    redis.call('DEL', flights.ACTIVE .. key)
    flights.note_end(key)
  end
  make_deliveries()
  forget_expired(EXPIRED_PER_END)
  -- Children of a job that ended early continue alone.
  for _, child in ipairs(redis.call('ZRANGE', UNDISPATCHED .. id, 0, -1)) do
    send_child(child)
  end
  redis.call('DEL', UNDISPATCHED .. id, PROGRESS .. id)
  if arg.outcome == 'cancelled' and redis.call('EXISTS', ENTRIES .. id) == 1 then
    set_deadline(0)
  end
  if not has_living_parent(id) then
    expire(id, tonumber(arg.ttl))
  end
end

-- The response if another job holds arg.single_flight_key, else nil.
local function share_active()
  local active = redis.call('GET', flights.ACTIVE .. arg.single_flight_key)
  if not active or field(active, 'ended') ~= '0' then
    return nil
  end
  if arg.parent and is_awaited_by(arg.parent, active) then
    return { 'circular' }
  end
  if has_enough_webhooks(active) then
    return { 'too_many_webhooks' }
  end
  if not arg.parent or join(active) then
    share(active)
  end
  askers.add(active)
  remember_request(active)
  add_webhooks(active)
  return existing(active)
end

local function write_new(key)
  redis.call('HSET', JOB .. id, 'record', arg.record, 'revision', arg.revision, 'ended', arg.ended,
    'single_flight_key', key, 'token', '', 'losses', 0, 'not_before', 0,
    'change_id', arg.change_id, 'queue', arg.queue, 'host', arg.host, 'priority', arg.priority,
    'source', arg.source, 'cost', arg.cost, 'run_epoch', arg.epoch,
    'caller', arg.parent and field(arg.parent, 'caller') or arg.caller or '')
  if arg.trace then
    redis.call('HSET', JOB .. id, 'trace', arg.trace)
  end
  callers.write_limits()
  if arg.ended == '0' and not arg.parent then
    callers.count_job()
  end
  if arg.unlisted ~= '1' then
    redis.call('ZADD', JOBS, 0, id)
  end
end

local function create()
  if field(id, 'change_id') == arg.change_id then
    return { 'created', field(id, 'record') }
  end
  if is_other_epoch() then
    return { 'epoch', time(current_epoch()) }
  end
  if arg.restored and not is_restored() then
    return { 'unrestored' }
  end
  local found = find_entry() or find_request() or find_upload()
  if found then
    return found
  end
  local key = ''
  if arg.ended == '0' then
    local shared = share_active()
    if shared then
      return shared
    end
    local limit = callers.used_up()
    if limit then
      return { 'used_up', limit }
    end
    key = arg.single_flight_key
    redis.call('SET', flights.ACTIVE .. key, id)
  end
  write_new(key)
  -- A job that has ended since the look into the bucket may have stored it.
  if arg.unstored and key ~= '' and redis.call('EXISTS', flights.ENDED .. key) == 0 then
    redis.call('HSET', JOB .. id, 'unstored', 1)
  end
  askers.add(id)
  remember_request(id)
  add_webhooks(id)
  if arg.parent then
    join(id)
  end
  if arg.ended == '1' then
    notify_parents()
    finish('')
  elseif arg.parent then
    redis.call('ZADD', UNDISPATCHED .. arg.parent, arg.order, id)
  else
    make_ready(id)
  end
  count_in_state()
  callers.count_queued()
  record_change()
  return { 'created', arg.record }
end

-- Makes a job of the journal again, also one that has ended. It exists under its id even if another job holds
-- its key by now: then its worker follows that one.
local function recreate()
  if field(id, 'record') then
    if field(id, 'ended') == '0' then
      add_webhooks(id)
    end
    return { 'existing', field(id, 'record') }
  end
  if now >= tonumber(arg.before) then
    return { 'late' }
  end
  if is_other_epoch() then
    return { 'epoch', time(current_epoch()) }
  end
  local key = arg.ended == '0' and arg.single_flight_key or ''
  local active = key ~= '' and redis.call('GET', flights.ACTIVE .. key)
  if active and field(active, 'ended') == '0' then
    redis.call('HSET', JOB .. id, 'wanted_key', key)
    key = ''
  elseif key ~= '' then
    redis.call('SET', flights.ACTIVE .. key, id)
  end
  write_new(key)
  -- Its earlier runs may not have ended, and have names of objects that this one must not use.
  redis.call('HSET', JOB .. id, 'run', time(now))
  askers.add(id)
  add_webhooks(id)
  local used = arg.request_id ~= '' and redis.call('HGET', REQUEST .. arg.request_id, 'job_id')
  if not used or not field(used, 'record') then
    remember_request(id)
  end
  if arg.ended == '1' then
    finish('')
    flights.note_end(arg.single_flight_key)
  else
    make_ready(id)
  end
  count_in_state()
  callers.count_queued()
  record_change()
  return { 'created', arg.record }
end

-- Moves the job from one single-flight key to arg.single_flight_key. Returns the id of the job that
-- holds that key, if there is one; nil if the job has moved.
local function move_from(key)
  local active = redis.call('GET', flights.ACTIVE .. arg.single_flight_key)
  if active and active ~= id and field(active, 'ended') == '0' then
    return active
  end
  if key ~= '' and redis.call('GET', flights.ACTIVE .. key) == id then
    redis.call('DEL', flights.ACTIVE .. key)
  end
  redis.call('SET', flights.ACTIVE .. arg.single_flight_key, id)
  redis.call('HSET', JOB .. id, 'single_flight_key', arg.single_flight_key)
  redis.call('HDEL', JOB .. id, 'wanted_key')
  return nil
end

local function is_overdue()
  local deadline = redis.call('ZSCORE', DEADLINES, id)
  return deadline and (tonumber(deadline) <= now or deadline == field(id, 'recheck_at'))
end

-- Runs of which Redis has lost the record may not have ended.
local function number_run()
  local run = redis.call('HINCRBY', JOB .. id, 'run', 1)
  local epoch = time(current_epoch())
  if field(id, 'run_epoch') ~= epoch then
    redis.call('HSET', JOB .. id, 'run', time(math.max(run, now)), 'run_epoch', epoch)
  end
end

-- What becomes of the slots of a job that was changed, and of its place among those that are ready.
local function reschedule()
  if arg.next_token == '' then
    free_slots(id)
    stop_following(id)
  elseif arg.worker then
    make_unready(id)
    -- It keeps the permit that it has got.
    local permit = field(id, 'permit')
    redis.call('HDEL', JOB .. id, 'permit')
    local slots = slots_held(id, arg.worker)
    free_slots(id)
    if permit then
      redis.call('HSET', JOB .. id, 'permit', permit)
    end
    if arg.worker ~= '' then
      take_slots(id, arg.worker, slots)
    end
    number_run()
    for parent in parents_of(id) do
      redis.call('ZREM', UNDISPATCHED .. parent, id)
    end
  end
  if arg.follows then
    bring_forward(arg.follows)
    follow(id, arg.follows)
  elseif tonumber(arg.state) == QUEUED and tonumber(arg.delay or 0) <= 0 then
    make_ready(id)
  else
    set_deadline(arg.deadline)
  end
end

local function changed(record)
  local stored = redis.call('HMGET', JOB .. id,
    'run', 'wanted_key', 'follows', 'unstored', 'trace', 'attempt_trace', 'daily_bytes', 'stored_bytes')
  return { 'done', record, unpack(stored) }
end

local function change()
  local stored = redis.call('HMGET', JOB .. id,
    'record', 'revision', 'token', 'not_before', 'change_id', 'single_flight_key', 'sequence')
  local record, revision, token, not_before, change_id, key, sequence = unpack(stored)
  if not record then
    forget(id)
    return { 'gone' }
  end
  if change_id == arg.change_id then
    return changed(record)
  end
  if arg.claimable and awaits_restoration() then
    return { 'early' }
  end
  if is_other_epoch() then
    return { 'epoch', time(current_epoch()) }
  end
  if arg.token and arg.token ~= token then
    return { 'lost' }
  end
  if arg.proves and awaits_restoration() then
    return { 'unrestored' }
  end
  if (arg.overdue and not is_overdue())
    or (arg.claimable and (tonumber(not_before) > now or is_following(id))) then
    return { 'early' }
  end
  if arg.follows and is_awaited_by(id, arg.follows) then
    return { 'circular' }
  end
  if arg.in_group and arg.in_group ~= field(id, 'journal') then
    return { 'lost' }
  end
  if arg.unshared and askers.share_with(arg.unshared) then
    return { 'lost' }
  end
  if arg.expected_revision and arg.expected_revision ~= revision then
    return { 'stale' }
  end
  if arg.withdraws and askers.withdraw() then
    return { 'wanted', record, askers.priority() }
  end
  if arg.wanted_priority and arg.wanted_priority ~= askers.priority() then
    return { 'lost' }
  end
  if arg.single_flight_key then
    local active = move_from(key)
    if active then
      return { 'taken', active }
    end
  end
  if arg.milestone == '1' then
    trail.add(sequence, record)
  end
  for number = 1, tonumber(arg.passed or 0) do
    local passed = arg['passed_' .. number]
    trail.add(feed.publish_job(passed), passed)
  end
  local waits = arg.waits_for_children and tonumber(arg.state) == RUNNING
  if arg.keeps_place then
    redis.call('HSET', JOB .. id, 'record', arg.record, 'revision', arg.revision, 'change_id', arg.change_id)
  else
    redis.call('HSET', JOB .. id, 'record', arg.record, 'revision', arg.revision, 'ended', arg.ended,
      'token', arg.next_token, 'not_before', time(now + (arg.delay or 0)),
      'change_id', arg.change_id,
      'waits_for_children', waits and 1 or 0)
  end
  if arg.priority then
    askers.set_priority(arg.priority)
  end
  if arg.losses then
    redis.call('HSET', JOB .. id, 'losses', arg.losses)
  end
  if arg.forget_requests then
    forget_requests()
  end
  notify_parents()
  if arg.ended == '1' then
    free_slots(id)
    finish(key)
  elseif waits then
    free_slots(id)
    rest()
  elseif not arg.keeps_place then
    reschedule()
  end
  count_in_state()
  callers.count_queued()
  record_change()
  return changed(arg.record)
end

local function restore()
  local stored = redis.call('HMGET', JOB .. id, 'record', 'revision', 'change_id')
  local record, revision, change_id = unpack(stored)
  if not record then
    return { 'gone' }
  end
  if change_id == arg.change_id then
    return { 'done', record }
  end
  if is_other_epoch() then
    return { 'epoch', time(current_epoch()) }
  end
  if arg.expected_revision ~= revision then
    return { 'stale' }
  end
  redis.call('HSET', JOB .. id, 'record', arg.record, 'revision', arg.revision,
    'change_id', arg.change_id)
  record_change()
  return { 'done', arg.record }
end

local function renew()
  local token = field(id, 'token')
  if not token then
    return { 'gone' }
  end
  if token ~= arg.token then
    return { 'lost' }
  end
  if arg.proves and awaits_restoration() then
    return { 'unrestored' }
  end
  if arg.attempt_trace then
    redis.call('HSET', JOB .. id, 'attempt_trace', arg.attempt_trace)
  end
  set_deadline(arg.deadline)
  return { 'done' }
end

-- A job without a worker that is due is ready again: its retry is due, or nobody has claimed it. All
-- others are returned for the caller to recover, and not again until arg.recheck has passed.
local function sweep()
  local found = {}
  local due = redis.call('ZRANGEBYSCORE', DEADLINES, '-inf', time(now), 'LIMIT', 0, arg.limit)
  for _, job_id in ipairs(due) do
    local stored = redis.call('HMGET', JOB .. job_id, 'ended', 'token', 'waits_for_children')
    local ended, token, waits_for_children = unpack(stored)
    if not ended then
      forget(job_id)
    elseif ended == '0' and token == '' and waits_for_children ~= '1' then
      local queue, worker = free_slots(job_id)
      if worker then
        -- It may have died, so it gets no more jobs before it announces itself again.
        forget_worker(queue, worker)
      end
      make_ready(job_id)
    else
      local recheck_at = time(now + arg.recheck)
      redis.call('ZADD', DEADLINES, recheck_at, job_id)
      redis.call('HSET', JOB .. job_id, 'recheck_at', recheck_at)
      found[#found + 1] = job_id
    end
  end
  return found
end

local operations = {
  create = create,
  recreate = recreate,
  change = change,
  renew = renew,
  sweep = sweep,
  dispatch = function()
    return awaits_restoration() and { time(-1) } or dispatch()
  end,
  waits = waits_for,
  announce = announce,
  retire = retire,
  forget = function()
    if redis.call('EXISTS', JOB .. id) == 0 then
      forget(id)
    end
    return { 'done' }
  end,
  children = function()
    return {
      redis.call('HGETALL', COUNTS .. id),
      redis.call('HVALS', PROGRESS .. id),
      redis.call('HVALS', ENTRIES .. id),
    }
  end,
  rest = function()
    if field(id, 'waits_for_children') == '1' then
      rest()
    end
    return { 'done' }
  end,
  advance = advance,
  settle = function()
    if field(id, 'ended') ~= '0' then
      redis.call('ZREM', DEADLINES, id)
    end
    return { 'done' }
  end,
  detach = detach,
  restore = restore,
  journal_state = journal_state,
  journal_restored = function()
    if not is_other_epoch() then
      redis.call('HSET', HISTORY, 'restored', arg.epoch)
    end
    return { 'done' }
  end,
  journal_note = note_group,
  journal_unknown = unknown_groups,
  journal_partial = partial_groups,
  journal_note_ends = note_ends,
  journal_ended = ended_jobs,
  journal_due = due_groups,
  journal_removed = forget_groups,
  journal_needed = needed_groups,
  epoch = function()
    local epoch = current_epoch()
    if epoch <= tonumber(arg.after) then
      epoch = begin_epoch(tonumber(arg.after))
    end
    return { time(epoch) }
  end,
  since = since,
  count = function()
    states.adopt()
    forget_expired(EXPIRED_PER_SWEEP)
    local counts = {}
    for state = 1, states.COUNT do
      counts[state] = arg.tenant and tonumber(redis.call('HGET', tenants.JOBS .. arg.tenant, state) or 0)
        or redis.call('ZCARD', states.JOBS .. state)
    end
    return counts
  end,
}

-- A newer or older version of Ingot works on this Redis: then no job begins here (redis_schema.py).
local schema = arg.schema and redis.call('GET', PREFIX .. 'schema-version')
if schema and schema ~= arg.schema then
  return { 'other_schema', schema }
end
return operations[operation]()
