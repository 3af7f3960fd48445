-- Errors in the shape that the client's dialect has for them; gateway/error_names.py has their names.

-- The dialect of a path; of the paths that dialects share, the client's headers tell.
local function dialect_of(handle, path)
  if find(path, '/v1/messages', 1, true) or sub(path, 1, 11) == '/anthropic/' then return 'anthropic' end
  if sub(path, 1, 8) == '/cohere/' or path == '/v2/rerank' then return 'cohere' end
  return handle:headers():get('anthropic-version') and 'anthropic' or 'openai'
end

-- The body of an error; status: as text; id: of the request.
local function error_body(dialect, status, message, id)
  if dialect == 'anthropic' then
    return '{"type":"error","error":{"type":"' .. anthropic_name(status) .. '","message":' .. quote(message) .. '},"request_id":'
      .. quote(id or '') .. '}\n'
  end
  if dialect == 'cohere' then return '{"id":' .. quote(id or '') .. ',"message":' .. quote(message) .. '}\n' end
  return '{"type":"error","error":{"type":"' .. openai_name(status) .. '","code":"' .. status
    .. '","message":' .. quote(message) .. '}}\n'
end

-- Answers in the provider's stead. headers: more for the client, or nil.
local function refuse(handle, dialect, status, message, headers)
  local told = { [':status'] = status, ['content-type'] = 'application/json' }
  for name, value in pairs(headers or {}) do told[name] = value end
  handle:respond(told, error_body(dialect, status, message, handle:headers():get('x-request-id')))
end
