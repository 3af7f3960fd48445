-- The context of this script, which gateway/keys/delivery.py makes: `index` and `lines` of keys, and `logins`. Envoy copies
-- all of it whenever it is asked, so it is asked once; what another context says comes with another script.
local kept_context = nil
local ID_WIDTH, PLACE_WIDTH = 16, 10
local RECORD_WIDTH = ID_WIDTH + 2 * PLACE_WIDTH

local function context_of(handle)
  if not kept_context then
    local context = handle:filterContext()
    kept_context = { index = context:get('index') or '', lines = context:get('lines') or '', logins = context:get('logins') or {} }
  end
  return kept_context
end

-- The line of a key, or nil: the index has records of one width in the order of their ids.
local function line_of(handle, id)
  local context = context_of(handle)
  local index = context.index
  local wanted = id .. string.rep(' ', ID_WIDTH - #id)
  local low, high = 0, #index / RECORD_WIDTH - 1
  while low <= high do
    local middle = math.floor((low + high) / 2)
    local at = middle * RECORD_WIDTH
    local found = sub(index, at + 1, at + ID_WIDTH)
    if found == wanted then
      local place = tonumber(sub(index, at + ID_WIDTH + 1, at + ID_WIDTH + PLACE_WIDTH))
      local size = tonumber(sub(index, at + ID_WIDTH + PLACE_WIDTH + 1, at + RECORD_WIDTH))
      return sub(context.lines, place, place + size - 1)
    end
    if found < wanted then low = middle + 1 else high = middle - 1 end
  end
  return nil
end
