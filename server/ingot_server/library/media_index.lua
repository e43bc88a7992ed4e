-- Lists a media item in sets of the index, or takes it out of all. See media_index.py for the keys.
-- ARGV: media id, member, text; then the names of the sets. Without names the item is removed.

local PREFIX = 'ingot:index:'
local ENTRIES, TEXTS = PREFIX .. 'entries', PREFIX .. 'texts'
local id, member, text = ARGV[1], ARGV[2], ARGV[3]

local entry = redis.call('HGET', ENTRIES, id)
if entry then
  local old_member, names = string.match(entry, '^(%S+) (.*)$')
  for name in string.gmatch(names, '[^\n]+') do
    redis.call('ZREM', PREFIX .. name, old_member)
  end
end
if #ARGV == 3 then
  redis.call('HDEL', ENTRIES, id)
  redis.call('HDEL', TEXTS, id)
  return 0
end
local names = {}
for i = 4, #ARGV do
  redis.call('ZADD', PREFIX .. ARGV[i], 0, member)
  names[#names + 1] = ARGV[i]
end
redis.call('HSET', ENTRIES, id, member .. ' ' .. table.concat(names, '\n'))
redis.call('HSET', TEXTS, id, text)
return 1
