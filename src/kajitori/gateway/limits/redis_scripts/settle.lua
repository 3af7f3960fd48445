-- KEYS: open, names, reservation. ARGV: prefix, now, id, amounts.
local own_key, id = KEYS[3], ARGV[3]
local fields = redis.call('HGETALL', own_key)
if #fields == 0 then
  return 0
end
for place = 1, #fields, 2 do
  local number = tonumber(fields[place])
  if number then
    local slot, amount, forget, counter = parse(fields[place + 1])
    local real = ARGV[3 + number]
    if real then
      add(counter, slot, tonumber(real) - tonumber(amount), -tonumber(amount), forget)
    end
  end
end
redis.call('DEL', own_key)
redis.call('ZREM', open_key, id)
return 1
