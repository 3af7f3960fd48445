-- Which part of a large route table has a model's routes. The same number as in envoy/shards.py. Models come again, so their
-- numbers are kept.
local SHARDS, MOST_SHARDS_KEPT = 32, 4096
local SHARD_OF, shards_kept = {}, 0

local function shard_of(model)
  local known = SHARD_OF[model]
  if known then return known end
  local number = 0
  for at = 1, #model do number = (number * 33 + byte(model, at)) % 65521 end
  known = string.format('%02d', number % SHARDS)
  if shards_kept >= MOST_SHARDS_KEPT then SHARD_OF, shards_kept = {}, 0 end
  SHARD_OF[model], shards_kept = known, shards_kept + 1
  return known
end
