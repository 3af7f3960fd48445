-- Errors in the shape that the client's dialect has for them.
local NAMES = { ['400'] = 'BadRequest', ['401'] = 'Unauthorized', ['403'] = 'Forbidden', ['404'] = 'NotFound',
  ['405'] = 'MethodNotAllowed', ['413'] = 'PayloadTooLarge', ['415'] = 'UnsupportedMediaType',
  ['422'] = 'UnprocessableEntity', ['429'] = 'TooManyRequests', ['500'] = 'InternalServerError',
  ['502'] = 'BadGateway', ['503'] = 'ServiceUnavailable', ['504'] = 'GatewayTimeout' }
local ANTHROPIC_NAMES = { ['400'] = 'invalid_request_error', ['401'] = 'authentication_error',
  ['403'] = 'permission_error', ['404'] = 'not_found_error', ['405'] = 'invalid_request_error',
  ['413'] = 'request_too_large', ['415'] = 'invalid_request_error', ['422'] = 'invalid_request_error',
  ['429'] = 'rate_limit_error', ['503'] = 'service_unavailable_error', ['529'] = 'overloaded_error' }

-- The dialect of a path; of the paths that dialects share, the client's headers tell.
local function dialect_of(handle, path)
  if find(path, '/v1/messages', 1, true) or sub(path, 1, 11) == '/anthropic/' then return 'anthropic' end
  if sub(path, 1, 8) == '/cohere/' or path == '/v2/rerank' then return 'cohere' end
  return handle:headers():get('anthropic-version') and 'anthropic' or 'openai'
end

-- The body of an error; status: as text; id: of the request.
local function error_body(dialect, status, message, id)
  if dialect == 'anthropic' then
    local kind = ANTHROPIC_NAMES[status] or 'internal_server_error'
    return '{"type":"error","error":{"type":"' .. kind .. '","message":' .. quote(message) .. '},"request_id":'
      .. quote(id or '') .. '}\n'
  end
  if dialect == 'cohere' then return '{"id":' .. quote(id or '') .. ',"message":' .. quote(message) .. '}\n' end
  return '{"type":"error","error":{"type":"' .. (NAMES[status] or 'Error') .. '","code":"' .. status
    .. '","message":' .. quote(message) .. '}}\n'
end

-- Answers in the provider's stead. headers: more for the client, or nil.
local function refuse(handle, dialect, status, message, headers)
  local told = { [':status'] = status, ['content-type'] = 'application/json' }
  for name, value in pairs(headers or {}) do told[name] = value end
  handle:respond(told, error_body(dialect, status, message, handle:headers():get('x-request-id')))
end
