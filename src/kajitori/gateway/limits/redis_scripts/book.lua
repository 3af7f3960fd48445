-- KEYS: open, counters. ARGV: prefix, now, then slot, amount, forget for each counter.
for number = 2, #KEYS do
  local at = 3 + (number - 2) * 3
  add(KEYS[number], ARGV[at], tonumber(ARGV[at + 1]), 0, ARGV[at + 2])
end
return 1
