-- Changes the entry of one media item in the index. See media_index.py for the keys.
-- KEYS[1]: what all keys begin with.
-- ARGV: 'add', media id, member, text, and the names of the sets: list it in these, and in no others.
--       'add_missing', and the same: only if it is in no list.
--       'remove', media id: take it out of all lists.

local PREFIX = KEYS[1] .. 'index:'
local ENTRIES, TEXTS = PREFIX .. 'entries', PREFIX .. 'texts'
local command, id, member, text = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local entry = redis.call('HGET', ENTRIES, id)
if entry then
  if command == 'add_missing' then
    return 0
  end
  local old_member, names = string.match(entry, '^(%S+) (.*)$')
  for name in string.gmatch(names, '[^\n]+') do
    redis.call('ZREM', PREFIX .. name, old_member)
  end
end
if command == 'remove' then
  redis.call('HDEL', ENTRIES, id)
  redis.call('HDEL', TEXTS, id)
  return 0
end
local names = {}
for i = 5, #ARGV do
  redis.call('ZADD', PREFIX .. ARGV[i], 0, member)
  names[#names + 1] = ARGV[i]
end
redis.call('HSET', ENTRIES, id, member .. ' ' .. table.concat(names, '\n'))
redis.call('HSET', TEXTS, id, text)
return 1
