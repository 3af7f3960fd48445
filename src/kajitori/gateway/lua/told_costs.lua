-- What an answer took, under the names that access logs ask for. COSTS, in front of this: by route, as namespace/name, which of
-- the six counts each name is. A stream that is cut runs no more of this and tells nothing; so does one without a report.
local NAMESPACE = 'io.envoy.ai_gateway'

function envoy_on_response(handle)
  local info = handle:streamInfo()
  local route = string.match(info:routeName(), '^ai/([^/]+/[^/]+)/')
  if not route then return end
  info:dynamicMetadata():set(NAMESPACE, 'route_name', route)
  -- The counts are there once all of the answer has passed.
  for _ in handle:bodyChunks() do end
  local metadata = handle:streamInfo():dynamicMetadata()
  local kept = metadata:get('io.kajitori')
  local usage = kept and kept.usage
  if not usage then return end
  local model = string.match(usage, ';(.+)$')
  if model then metadata:set(NAMESPACE, 'response_model', model) end
  local counts = { string.match(usage, '^!?(%d+),(%d+),(%d+),(%d+),(%d+),(%d+)') }
  if not counts[1] then return end
  for name, place in pairs(COSTS[route] or {}) do metadata:set(NAMESPACE, name, tonumber(counts[place])) end
end
