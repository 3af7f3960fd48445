-- Runs once a request, before routing: finds the operation by its path and the model where that operation has it,
-- puts the model into `x-ai-eg-model`, remembers what the client sent (every attempt starts from that), estimates
-- what it may cost, and asks for the token usage of streams.
local LONGEST_MODEL = 512
local TOO_LONG = '`model` is longer than 512 bytes'
-- Members that are prompts: their bytes, divided by four, are the estimate of input tokens.
local TEXTS = { 'messages', 'prompt', 'input', 'system', 'instructions', 'tools', 'query', 'documents', 'text_1',
  'text_2' }
local CAPS = { 'max_completion_tokens', 'max_tokens', 'max_output_tokens' }
-- What is read of a body; each may be there once, since providers differ in which of two they take.
local READ = { model = true, stream = true, stream_options = true, n = true }
for _, name in ipairs(TEXTS) do READ[name] = true end
for _, name in ipairs(CAPS) do READ[name] = true end
local NAMES_READ = {}
for name in pairs(READ) do NAMES_READ[#NAMES_READ + 1] = name end
-- An image in a prompt counts as so many bytes, which are 1,024 tokens, however large it is.
local ATTACHMENT_BYTES, MOST_ATTACHMENTS = 4096, 10000

-- The operation of a client's path and the identifier in it, or nil.
local function find_operation(path)
  local exact = OPERATIONS[path]
  if exact then return exact end
  local head, id, tail = string.match(path, '^(/v1/%l+/)([%w%-_.:~=]+)(.*)$')
  if not head then return nil end
  return OPERATIONS[head .. '{id}' .. tail], id
end

-- Bytes from `first` to `last` that count as text: files in base64 count as one attachment each.
local function text_bytes(text, first, last)
  local size = last - first + 1
  if size <= ATTACHMENT_BYTES then return size end
  local at = first
  for _ = 1, MOST_ATTACHMENTS do
    local place = find(text, 'base64', at, true)
    if not place or place > last then return size end
    at = place + 6
    local starts = byte(text, at) == 44 and at or nil
    if not starts and byte(text, at) == 34 then
      local _, colon = find(sub(text, at, at + 200), '"data"%s*:%s*"')
      starts = colon and at + colon
    end
    local ends = starts and string_end(text, starts)
    if ends and ends <= last then
      if ends - starts > ATTACHMENT_BYTES then size = size - (ends - starts) + ATTACHMENT_BYTES end
      at = ends
    end
  end
  return size
end

-- Where the members of the body stand that is being read, by name, and what is wrong with them; for one body at a time,
-- since nobody waits within one.
local from, to, problem = {}, {}, nil

-- The bound of output tokens that a body names, as text, or nil.
local function output_cap(text)
  for number = 1, #CAPS do
    local name = CAPS[number]
    local cap = from[name] and tonumber(string.match(sub(text, from[name], to[name]), '^%d+$'))
    if cap then
      local count = from.n and tonumber(string.match(sub(text, from.n, to.n), '^%d+$')) or 1
      return string.format('%.0f', math.min(cap * math.max(count, 1), 1e15))
    end
  end
  return nil
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

local function note_member(key, _, first, last)
  if READ[key] then
    if from[key] then problem = 'there are two members `' .. key .. '`' end
    from[key], to[key] = first, last
  elseif #key == 5 and key:lower() == 'model' then
    problem = 'a member `' .. key .. '` might be taken for `model`'
  end
end

-- Reads a JSON body into `facts`. Returns the model (or nil) and a changed body (or nil), or false and what is wrong.
local function read_json(operation, text, facts)
  for number = 1, #NAMES_READ do from[NAMES_READ[number]] = nil end
  problem = nil
  local close, malformed = members(text, note_member)
  if not close then return false, 'failed to parse JSON for ' .. facts.path .. ': ' .. malformed end
  if problem then return false, problem end
  local model = nil
  if from.model then
    if byte(text, from.model) ~= 34 then return false, '`model` must be a string that names a model' end
    if to.model - from.model > 6 * LONGEST_MODEL + 1 then return false, TOO_LONG end
    model = unescape(sub(text, from.model + 1, to.model - 1))
  end
  local bytes = 0
  for number = 1, #TEXTS do
    local first = from[TEXTS[number]]
    if first then bytes = bytes + text_bytes(text, first, to[TEXTS[number]]) end
  end
  facts.input_tokens = tostring(math.ceil(bytes / 4))
  facts.output_tokens = operation.silent and '0' or output_cap(text)
  if from.stream and byte(text, from.stream) == 116 then
    facts.stream = 'true'
    local changed = operation.forced and with_usage(text, close, from.stream_options, to.stream_options)
    if changed then
      facts.strip = 'true'
      return model, changed
    end
  end
  return model, nil
end

-- As `read_json`, of a multipart form.
local function read_form(handle, text, facts)
  local boundary = form_boundary(handle:headers():get('content-type'))
  if not boundary then return false, facts.path .. ' takes multipart/form-data' end
  local first, last, problem = form_field(text, boundary, 'model')
  if problem then return false, 'failed to parse the form for ' .. facts.path .. ': ' .. problem end
  facts.form = boundary
  return first and sub(text, first, last), nil
end

local function query_member(query, name)
  local value = string.match('&' .. (query or ''), '&' .. name .. '=([^&]*)')
  return value and percent_decoded((value:gsub('+', ' ')))
end

-- Why a name of a model cannot be one, or nil.
local function model_problem(operation, model)
  if not model then
    return operation.required and '`model` is missing: it must be a string that names a model' or nil
  end
  if model == '' then return '`model` is empty' end
  if find(model, '%c') then return '`model` has control characters' end
  if #model > LONGEST_MODEL then return TOO_LONG end
  return nil
end

-- Reads model and facts from wherever the operation has them. Returns as `read_json`; the second is set as body.
local function read_request(handle, operation, query, facts)
  if operation.model == 'query' then
    -- Frames that are compressed could not be read for usage.
    handle:headers():remove('sec-websocket-extensions')
    return query_member(query, 'model')
  end
  if operation.model == 'none' then return handle:headers():get('x-kajitori-asked-model') end
  local body = handle:body()
  local text = body and body:getBytes(0, body:length()) or ''
  facts.length = tostring(#text)
  if operation.model == 'form' then return read_form(handle, text, facts) end
  local model, changed = read_json(operation, text, facts)
  if model ~= false and changed then
    body:setBytes(changed)
    facts.length = tostring(#changed)
  end
  return model, changed
end

-- Path, length and model for routing and for the provider; the dialect's own path is what its providers have.
local function tell_headers(handle, operation, path, id, query, facts, shards)
  local headers = handle:headers()  -- waiting for the body has made an earlier one stale
  if facts.length and not headers:get('content-length') then
    -- The body is whole by now, and some providers refuse one that comes in chunks.
    headers:remove('transfer-encoding')
    headers:replace('content-length', facts.length)
  end
  local native = operation.native
  if id then native = native:gsub('{id}', id) end
  if query and operation.query then
    native = native .. '?' .. query
    facts.query = query
  elseif query then
    headers:replace('x-kajitori-query', query)  -- limits may select by it
  elseif path == native then
    native = nil
  end
  if native then headers:replace(':path', native) end
  if facts.stream then headers:replace('x-kajitori-stream', 'true') end
  if operation.model == 'none' then headers:replace('x-kajitori-once', 'true') end
  if facts.model then
    headers:replace('x-ai-eg-model', facts.model)
    headers:replace('x-kajitori-schemas', operation.schemas)
    if shards then headers:replace('x-kajitori-table', shards .. shard_of(facts.model)) end
  else
    headers:replace('x-kajitori-schemas', operation.unnamed)
  end
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local path, query = headers:get(':path'), nil
  local mark = find(path, '?', 1, true)
  if mark then path, query = sub(path, 1, mark - 1), sub(path, mark + 1) end
  local client, settled = identify(handle, headers, path)
  if settled then return end
  local operation, id = find_operation(path)
  if not operation or not operation.methods[headers:get(':method')] then return end
  local encoding = headers:get('content-encoding')
  if encoding and encoding ~= 'identity' and operation.model ~= 'none' then
    return refuse(handle, operation.dialect, '415',
      'the body is compressed (content-encoding ' .. encoding .. '); send it as it is')
  end
  local upgrade = headers:get('upgrade')
  if operation.model ~= 'query' and upgrade then
    -- The body of such a request has no end, and would be waited for.
    return refuse(handle, operation.dialect, '400', path .. ' is not for WebSockets; ask it by plain HTTP')
  end
  if operation.model == 'query' and not upgrade then
    return refuse(handle, operation.dialect, '426', path .. ' is for WebSockets; ask it by HTTP/1.1 with an upgrade')
  end
  local shards = handle:metadata():get('shards')
  local facts = { path = path, operation = operation.name, dialect = operation.dialect, id = id }
  local model, problem = read_request(handle, operation, query, facts)
  if model ~= false then problem = model_problem(operation, model) end
  if problem then
    -- Envoy AI Gateway has another status for a message without a model; other dialects' providers have none.
    local lacking = model ~= false and (model or '') == '' and operation.dialect == 'anthropic'
    return refuse(handle, operation.dialect, lacking and '422' or '400',
      (lacking and 'invalid request body: ' or 'malformed request: ') .. problem)
  end
  if client then
    facts.key, facts.tenant = client.id, client.tenant
    if operation.model == 'none' and is_for_some_models(client) then
      -- What it asks for is in files, or was asked for before: which models are in there cannot be told.
      return refuse(handle, operation.dialect, '403', 'this API key is for some models only and may not use ' .. path)
    end
  end
  local told = handle:headers()
  local hedge = told:get('x-kajitori-hedge')
  if hedge or told:get('x-kajitori-leg') then
    -- By the inner listener, from the relay of streams or as a leg of a hedged request: who asks was settled before.
    facts.key, facts.tenant = told:get('x-kajitori-key'), told:get('x-kajitori-tenant')
    facts.excluded = told:get('x-kajitori-excluded')
    handle:streamInfo():dynamicMetadata():set(METADATA, 'client', told:get('x-kajitori-client') or '')
    if hedge then
      handle:streamInfo():dynamicMetadata():set(METADATA, 'hedge', hedge)
      facts.hedge = read_hedge(told, tonumber(hedge))
    else
      facts.leg = 'true'
    end
  end
  facts.model = model
  tell_headers(handle, operation, path, id, query, facts, shards)
  keep(handle, facts)
  handle:clearRouteCache()
  if not let_through(handle, path, client, model) then return end
  local refusal = arrange(handle, facts)
  if refusal then return refuse(handle, operation.dialect, refusal[1], refusal[2], refusal[3]) end
end
