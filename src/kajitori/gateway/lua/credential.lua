-- What a client brought as its own credential for a backend, and the answer to one who brought none. Needs
-- scanner.lua and refusals.lua in front.

-- The value of each key, in their order; nil where one is missing. A single key may stand for a struct.
local function brought(handle, context)
  local keys = context:get('keys')
  if not keys then return nil end
  local found = handle:streamInfo():dynamicMetadata():get(context:get('namespace'))
  local values = {}
  for i, key in ipairs(keys) do values[i] = found and found[key] end
  return values
end

local function is_text(value)
  return type(value) == 'string' and value ~= '' and not string.find(value, '%c')
end

local function refuse_without(handle)
  local facts = handle:streamInfo():dynamicMetadata():get('io.kajitori')
  local dialect = facts and facts.request and facts.request.dialect or 'openai'
  refuse(handle, dialect, '401', 'missing upstream credential: this backend is asked with one that comes with the request')
end
