-- KEYS: open, names, reservation, a counter for each hold.
-- ARGV: prefix, now, late seconds, id, note, expires, number of groups, groups, number of open candidates, these,
-- then for each hold slot, oldest, newest, keep, amount, capacity, kind, group, forget. See `decision.decide`.
local late_seconds = tonumber(ARGV[3])
give_back(8, late_seconds)

local own_key, id, note, expires = KEYS[3], ARGV[4], ARGV[5], ARGV[6]
local at = 7
local function read()
  local value = ARGV[at]
  at = at + 1
  return value
end

local groups = {}
for number = 1, tonumber(read()) do
  groups[number] = tonumber(read())
end
local candidates = {}
for _ = 1, tonumber(read()) do
  candidates[tonumber(read())] = true
end

local holds, has_room = {}, {}
for number = 4, #KEYS do
  local hold = {
    counter = KEYS[number], slot = read(), oldest = tonumber(read()), newest = tonumber(read()), keep = tonumber(read()),
    amount = tonumber(read()), capacity = tonumber(read()), kind = read(), group = tonumber(read()) + 1,
    forget = read(), used = 0, open = 0, slots = {}, order = {}, reserved = {},
  }
  local fields = redis.call('HGETALL', hold.counter)
  for place = 1, #fields, 2 do
    local slot, amount = tonumber(fields[place]), tonumber(fields[place + 1])
    if slot then
      hold.slots[slot] = amount
      if slot >= hold.oldest and slot <= hold.newest then
        hold.used = hold.used + amount
        hold.order[#hold.order + 1] = slot
      end
    else
      slot = tonumber(string.sub(fields[place], 2))
      hold.reserved[slot] = amount
      if slot >= hold.oldest and slot <= hold.newest then
        hold.open = hold.open + amount
      end
    end
  end
  if hold.kind == 'strict' then
    hold.room = hold.used + math.max(hold.amount, 1) <= hold.capacity
  else
    hold.room = hold.kind == 'shadow' or hold.used < hold.capacity
  end
  if hold.room then
    has_room[hold.group] = true
  end
  holds[#holds + 1] = hold
end

local closed, named = {}, false
for number, candidate in ipairs(groups) do
  if candidate >= 0 then
    named = true
  end
  if not has_room[number] then
    closed[candidate] = true
  end
end
for number, candidate in ipairs(groups) do
  if candidate >= 0 and not closed[candidate] then
    candidates[candidate] = true
  end
end
local allowed = not closed[-1] and (next(candidates) ~= nil or not named)

local function frees(hold)
  local need = 1
  if hold.kind == 'strict' then
    need = math.max(hold.amount, 1)
  end
  if need > hold.capacity then
    return ''
  end
  local over = hold.used + need - hold.capacity
  table.sort(hold.order)
  for _, slot in ipairs(hold.order) do
    over = over - hold.slots[slot]
    if over <= 0 then
      return whole(slot)
    end
  end
  return hold.slot
end

local answer = { allowed and '1' or '0' }
local open = {}
for candidate in pairs(candidates) do
  open[#open + 1] = whole(candidate)
end
answer[2] = table.concat(open, ',')
for number, hold in ipairs(holds) do
  local taken = 0
  if allowed and not closed[groups[hold.group]] then
    taken = hold.amount
    if hold.kind == 'clip' then
      taken = math.min(taken, math.max(hold.capacity - hold.used, 0))
    end
  end
  if allowed then
    for slot in pairs(hold.slots) do
      -- What is reserved is going to be settled where it stands, also when another window holds meanwhile.
      if slot < hold.keep and (hold.reserved[slot] or 0) == 0 then
        redis.call('HDEL', hold.counter, whole(slot), 'o' .. whole(slot))
      end
    end
    if taken ~= 0 then
      redis.call('HINCRBY', hold.counter, hold.slot, whole(taken))
      redis.call('HINCRBY', hold.counter, 'o' .. hold.slot, whole(taken))
      expire(hold.counter, hold.forget)
    end
    redis.call('HSET', own_key, whole(number), hold.slot .. ':' .. whole(taken) .. ':' .. hold.forget .. ':' .. hold.counter)
  end
  answer[#answer + 1] = whole(hold.used)
  answer[#answer + 1] = whole(hold.open)
  answer[#answer + 1] = whole(taken)
  answer[#answer + 1] = hold.room and '1' or '0'
  answer[#answer + 1] = hold.room and '' or frees(hold)
end
if allowed then
  redis.call('HDEL', own_key, 'late')
  redis.call('HSET', own_key, 'note', note)
  redis.call('EXPIREAT', own_key, whole(math.ceil(tonumber(expires) + late_seconds + 60)))
  redis.call('ZADD', open_key, expires, id)
end
return answer
