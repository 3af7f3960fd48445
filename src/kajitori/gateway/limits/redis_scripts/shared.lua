-- A reservation is a hash: `note`, `late` once it was given back, and for each hold, by number,
-- `slot:amount:forget:counter`. A counter is a hash of slots; `o` and a slot is what is reserved of it. Whole numbers are written out by hand: Lua's own way
-- loses digits beyond the 14th.
-- `names` has the counters by when they are forgotten.
local open_key, names_key = KEYS[1], KEYS[2]
local prefix = ARGV[1]
local now = tonumber(ARGV[2])

local function whole(number)
  return string.format('%.0f', number)
end

local function parse(value)
  return string.match(value, '^(-?%d+):(-?%d+):(%d+):(.*)$')
end

-- Never earlier than it was: of another window of the same limit something may count still.
local function expire(counter, forget)
  if tonumber(forget) - now > redis.call('TTL', counter) then
    redis.call('EXPIREAT', counter, forget)
    redis.call('ZADD', names_key, forget, counter)
  end
end

local function add(counter, slot, amount, reserved, forget)
  if tonumber(forget) <= now then
    redis.call('HDEL', counter, slot, 'o' .. slot)
    return
  end
  if amount == 0 and reserved == 0 then
    return
  end
  local fresh = redis.call('EXISTS', counter) == 0
  local answer = redis.pcall('HINCRBY', counter, slot, whole(amount))
  -- A count that has reached the end of 64 bits stays there: nothing of its limit is left, and a script that fails
  -- halfway would be tried again for ever.
  if type(answer) == 'table' and answer.err and not string.find(answer.err, 'overflow', 1, true) then
    error(answer.err, 0)
  end
  if reserved ~= 0 and not fresh then
    redis.call('HINCRBY', counter, 'o' .. slot, whole(reserved))
  end
  -- What is only booked, and never reserved, must not be forgotten with the first window that it was counted in.
  expire(counter, forget)
end

local function give_back(most, late_seconds)
  local old = redis.call('ZRANGEBYSCORE', open_key, '-inf', ARGV[2], 'LIMIT', 0, most)
  for _, id in ipairs(old) do
    local key = prefix .. 'r:' .. id
    local fields = redis.call('HGETALL', key)
    local late = #fields == 0
    for place = 1, #fields, 2 do
      if fields[place] == 'late' then
        late = true
      end
    end
    if late then
      redis.call('DEL', key)
      redis.call('ZREM', open_key, id)
    else
      for place = 1, #fields, 2 do
        if fields[place] ~= 'note' then
          local slot, amount, forget, counter = parse(fields[place + 1])
          add(counter, slot, -tonumber(amount), -tonumber(amount), forget)
          redis.call('HSET', key, fields[place], slot .. ':0:' .. forget .. ':' .. counter)
        end
      end
      redis.call('HSET', key, 'late', '1')
      redis.call('ZADD', open_key, tonumber(redis.call('ZSCORE', open_key, id)) + late_seconds, id)
    end
  end
  return #old
end
