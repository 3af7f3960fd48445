-- Runs once a request, before routing: reads `model` from the JSON body into `x-ai-eg-model`, remembers what
-- the client sent (every attempt starts from that), and asks for the token usage of streams. The usage event
-- that a client did not ask for is taken out of its stream again.
local METADATA = 'io.kajitori'

-- Paths whose body is JSON with a `model`; true: streams report usage only if `stream_options` asks for it.
local OPERATIONS = {
  ['/v1/chat/completions'] = true,
  ['/v1/completions'] = true,
  ['/v1/embeddings'] = false,
  ['/v1/responses'] = false,
  ['/v1/images/generations'] = false,
  ['/v1/audio/speech'] = false,
  ['/v1/moderations'] = false,
  ['/v1/rerank'] = false,
  ['/rerank'] = false,
  ['/score'] = false,
  ['/tokenize'] = false,
}

local function refuse(handle, status, kind, message)
  handle:respond({ [':status'] = status, ['content-type'] = 'application/json' },
    '{"type":"error","error":{"type":"' .. kind .. '","code":"' .. status .. '","message":' .. quote(message) .. '}}\n')
end

-- `text` with include_usage set in its stream_options, or nil if the client did that itself.
local function with_usage(text, close, start, last)
  if not start then
    local comma = find(text, '[^ \t\r\n{]', 1) ~= close and ',' or ''
    return sub(text, 1, close - 1) .. comma .. '"stream_options":{"include_usage":true}' .. sub(text, close)
  end
  local options = sub(text, start, last)
  local value_from, value_to
  local closing = members(options, function(key, _, from, to)
    if key == 'include_usage' then value_from, value_to = from, to end
  end)
  if not closing then
    options = '{"include_usage":true}'
  elseif not value_from then
    local comma = find(options, '[^ \t\r\n{]') ~= closing and ',' or ''
    options = sub(options, 1, closing - 1) .. comma .. '"include_usage":true' .. sub(options, closing)
  elseif sub(options, value_from, value_to) == 'true' then
    return nil
  else
    options = sub(options, 1, value_from - 1) .. 'true' .. sub(options, value_to + 1)
  end
  return sub(text, 1, start - 1) .. options .. sub(text, last + 1)
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local path = headers:get(':path')
  local query = find(path, '?', 1, true)
  if query then path = sub(path, 1, query - 1) end
  local client, settled = identify(handle, headers, path)
  if settled then return end
  local reports_on_request = OPERATIONS[path]
  if reports_on_request == nil or headers:get(':method') ~= 'POST' then return end
  local encoding = headers:get('content-encoding')
  if encoding and encoding ~= 'identity' then
    return refuse(handle, '415', 'UnsupportedMediaType',
      'the body is compressed (content-encoding ' .. encoding .. '); send it as plain JSON')
  end
  local body = handle:body()
  local text = body and body:getBytes(0, body:length()) or ''
  local model_from, model_to, stream, options_from, options_to
  local close, problem = members(text, function(key, _, from, to)
    if key == 'model' then model_from, model_to = from, to
    elseif key == 'stream' then stream = byte(text, from) == 116
    elseif key == 'stream_options' then options_from, options_to = from, to
    end
  end)
  if not close then
    return refuse(handle, '400', 'BadRequest', 'malformed request: failed to parse JSON for ' .. path .. ': ' .. problem)
  end
  if not model_from or byte(text, model_from) ~= 34 then
    return refuse(handle, '400', 'BadRequest', 'malformed request: `model` must be a string that names a model')
  end
  local model = unescape(sub(text, model_from + 1, model_to - 1))
  if model == '' or find(model, '%c') then
    return refuse(handle, '400', 'BadRequest', 'malformed request: `model` is empty or has control characters')
  end
  local facts = { path = path, model = model, length = tostring(#text) }
  if stream then
    facts.stream = 'true'
    local changed = reports_on_request and with_usage(text, close, options_from, options_to)
    if changed then
      body:setBytes(changed)
      facts.length = tostring(#changed)
      facts.strip = 'true'
    end
  end
  headers = handle:headers()  -- waiting for the body has made the former one stale
  if not headers:get('content-length') then
    -- The body is whole by now, and some providers refuse one that comes in chunks.
    headers:remove('transfer-encoding')
    headers:replace('content-length', facts.length)
  end
  if query then headers:replace(':path', path) end
  headers:replace('x-ai-eg-model', model)
  if client then facts.key, facts.tenant = client.id, client.tenant end
  handle:streamInfo():dynamicMetadata():set(METADATA, 'request', facts)
  handle:clearRouteCache()
  let_through(handle, path, client, model)
end

-- True for a whole event that carries usage and nothing else.
local function only_usage(event)
  return find(event, '"choices"%s*:%s*%[%s*%]') and find(event, '"usage"%s*:%s*{') and true or false
end

function envoy_on_response(handle)
  local facts = handle:streamInfo():dynamicMetadata():get(METADATA)
  if not facts or not facts.request or not facts.request.strip then return end
  local kind = handle:headers():get('content-type')
  if not kind or not find(kind, 'text/event-stream', 1, true) then return end
  if handle:headers():get('content-encoding') then return end
  local kept = ''
  for chunk in handle:bodyChunks() do
    local size = chunk:length()
    if size > 0 then
      local text = chunk:getBytes(0, size)
      -- Most chunks are whole events without usage: they pass untouched.
      if kept ~= '' or find(text, '"usage"', 1, true) or sub(text, -2) ~= '\n\n' then
        text = kept .. text
        kept = ''
        local out, at = {}, 1
        while true do
          local _, last = find(text, '\r?\n\r?\n', at)
          if not last then break end
          local event = sub(text, at, last)
          if not only_usage(event) then out[#out + 1] = event end
          at = last + 1
        end
        local rest = sub(text, at)
        -- An event that goes on in the next chunk waits for its end, unless it cannot be the usage event.
        if not find(rest, '^data: ?%[') then
          kept = rest
        else
          out[#out + 1] = rest
        end
        chunk:setBytes(table.concat(out))
      end
    end
  end
end
