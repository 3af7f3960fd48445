-- KEYS: open, counters. ARGV: prefix, now, most slots, then slot, amount, forget, keep for each counter.
for number = 2, #KEYS do
  local counter, at = KEYS[number], 4 + (number - 2) * 4
  add(counter, ARGV[at], tonumber(ARGV[at + 1]), 0, ARGV[at + 2])
  if redis.call('HLEN', counter) > tonumber(ARGV[3]) then
    local keep = tonumber(ARGV[at + 3])
    for _, field in ipairs(redis.call('HKEYS', counter)) do
      local slot = tonumber(field) or tonumber(string.sub(field, 2))
      if slot < keep then
        redis.call('HDEL', counter, field)
      end
    end
  end
end
return 1
