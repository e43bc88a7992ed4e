-- Changes the entry of one media item in the index. See media_index.py for the keys.
-- KEYS[1]: what all keys begin with.
-- ARGV: 'add', media id, member, bytes, text, and the names of the sets: list it in these, and in no others.
--       'add_missing', and the same: only if it is in no list.
--       'remove', media id: take it out of all lists.

local PREFIX = KEYS[1] .. 'index:'
local ENTRIES, TEXTS, OWNER_BYTES = PREFIX .. 'entries', PREFIX .. 'texts', PREFIX .. 'owner-bytes'
local command, id, member, size, text = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

-- The media item has so many more bytes, if the set is that of an owner.
local function count_bytes(name, bytes)
  local owner = string.match(name, '^owner:(.*)$')
  if owner and redis.call('HINCRBY', OWNER_BYTES, owner, bytes) <= 0 then
    redis.call('HDEL', OWNER_BYTES, owner)
  end
end

local entry = redis.call('HGET', ENTRIES, id)
if entry then
  if command == 'add_missing' then
    return 0
  end
  -- An earlier version of the server has left entries without bytes, which were not counted.
  local old_member, old_size, names = string.match(entry, '^(%S+) (%d*) ?(.*)$')
  for name in string.gmatch(names, '[^\n]+') do
    redis.call('ZREM', PREFIX .. name, old_member)
    if old_size ~= '' then
      count_bytes(name, '-' .. old_size)
    end
  end
end
if command == 'remove' then
  redis.call('HDEL', ENTRIES, id)
  redis.call('HDEL', TEXTS, id)
  return 0
end
local names = {}
for i = 6, #ARGV do
  redis.call('ZADD', PREFIX .. ARGV[i], 0, member)
  count_bytes(ARGV[i], size)
  names[#names + 1] = ARGV[i]
end
redis.call('HSET', ENTRIES, id, member .. ' ' .. size .. ' ' .. table.concat(names, '\n'))
redis.call('HSET', TEXTS, id, text)
return 1
