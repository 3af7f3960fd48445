-- Which part of a large route table has a model's routes. The same number as in envoy/shards.py.
local SHARDS = 32

local function shard_of(model)
  local number = 0
  for at = 1, #model do number = (number * 33 + byte(model, at)) % 65521 end
  return string.format('%02d', number % SHARDS)
end
