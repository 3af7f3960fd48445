-- KEYS: open, names, source, counters. ARGV: prefix, now, most slots, number, position, then slot, amount, forget, keep for
-- each counter. See `Receipt`.
local source, booking, position = KEYS[3], ARGV[4], ARGV[5]
if booking ~= '' then
  if redis.call('HGET', source, 'number') == booking then
    return 0
  end
  redis.call('HSET', source, 'number', booking)
  if position ~= '' then
    redis.call('HSET', source, 'position', position)
  end
  redis.call('EXPIRE', source, 604800)
end
for number = 4, #KEYS do
  local counter, at = KEYS[number], 6 + (number - 4) * 4
  add(counter, ARGV[at], tonumber(ARGV[at + 1]), 0, ARGV[at + 2])
  if redis.call('HLEN', counter) > tonumber(ARGV[3]) then
    local keep = tonumber(ARGV[at + 3])
    for _, field in ipairs(redis.call('HKEYS', counter)) do
      local slot = tonumber(field) or tonumber(string.sub(field, 2))
      if slot < keep and (tonumber(redis.call('HGET', counter, 'o' .. string.format('%.0f', slot)) or '') or 0) == 0 then
        redis.call('HDEL', counter, field)
      end
    end
  end
end
return 1
