-- Keys of clients: who sent a request, and what they may use. Needs sha256.lua and scanner.lua in front.
--
-- Metadata of a route: `keys` (Required or Optional; none where nothing is asked before the body is read), `route`,
-- `listing`. Lines are those that gateway/keys/table.py writes.
local KEY_HEADERS = { 'authorization', 'x-api-key', 'api-key' }
local LONGEST_KEY = 55
-- What lines of the table say, by the line, so that a line is taken apart once. Several workers have one each.
local read_lines, lines_kept = {}, 0
local LINES_KEPT = 20000

local function items(text)
  if text == '' then return nil end
  local exact, beginnings = {}, {}
  for item in string.gmatch(text, '[^\n]+') do
    if sub(item, -1) == '*' then beginnings[#beginnings + 1] = sub(item, 1, -2) else exact[item] = true end
  end
  return { exact = exact, beginnings = beginnings }
end

-- Whether a list that is there names `text`, itself or by its beginning.
local function names(list, text)
  if not list or list.exact[text] then return true end
  for i = 1, #list.beginnings do
    local beginning = list.beginnings[i]
    if sub(text, 1, #beginning) == beginning then return true end
  end
  return false
end

local function read_line(line)
  local known = read_lines[line]
  if known then return known end
  local fields = {}
  for field in string.gmatch(line .. '\t', '([^\t]*)\t') do fields[#fields + 1] = field end
  local client = {
    id = fields[1], tenant = fields[2], refusal = fields[3] ~= '' and fields[3] or nil, ends = tonumber(fields[4]),
    hashes = {}, visible = items(fields[6]) or items('/'), models = items(fields[7]), tenant_models = items(fields[8]),
    routes = items(fields[9]), tenant_routes = items(fields[10]),
  }
  for hash, from, to in string.gmatch(fields[5], '(%x+):(%d*):(%d*)') do
    local digest = hash:gsub('%x%x', function(pair) return string.char(tonumber(pair, 16)) end)
    client.hashes[digest] = { from = tonumber(from), to = tonumber(to) }
  end
  if lines_kept >= LINES_KEPT then read_lines, lines_kept = {}, 0 end
  read_lines[line], lines_kept = client, lines_kept + 1
  return client
end

-- The key that a client sent, which goes no further than this: its header is taken away.
local function presented_key(headers)
  local key
  for i = 1, 3 do
    local name = KEY_HEADERS[i]
    local value = headers:get(name)
    if value and find(value, 'kaji_', 1, true) then
      headers:remove(name)
      if i == 1 then value = string.match(value, '^[Bb][Ee][Aa][Rr][Ee][Rr] +(.*)$') or '' end
      key = key or value
    end
  end
  -- Browsers cannot send headers of their own with a WebSocket; OpenAI lets the key stand among its protocols.
  local protocols = headers:get('sec-websocket-protocol')
  if protocols and find(protocols, 'kaji_', 1, true) then
    local kept = {}
    for protocol in string.gmatch(protocols, '[^,%s]+') do
      local sent = string.match(protocol, '^openai%-insecure%-api%-key%.(kaji_.*)$')
      if sent then key = key or sent elseif not find(protocol, 'kaji_', 1, true) then kept[#kept + 1] = protocol end
    end
    if #kept == 0 then headers:remove('sec-websocket-protocol')
    else headers:replace('sec-websocket-protocol', table.concat(kept, ', ')) end
  end
  return key
end

-- What the table says of a key, by the whole key, so that a key is hashed once. Only keys of clients that were found are
-- in it, and the table is the same as long as this script lives.
local found_keys, keys_found = {}, 0
local KEYS_FOUND = 4096

-- Whom the table has a key for: client and when its hash is valid; or nil and what is wrong with it. That a hash is found
-- sooner or later tells nothing: who does not have the key cannot choose its hash.
local function find_key(handle, key)
  local id = #key <= LONGEST_KEY and string.match(key, '^kaji_([a-z0-9]+)_[%w_-]+$')
  if not id then return nil, 'what was sent as an API key does not have the form of one' end
  local line = line_of(handle, id)
  local client = line and read_line(line)
  local hash = client and client.hashes[sha256(key)]
  if not hash then return nil, 'the API key is unknown' end
  if keys_found >= KEYS_FOUND then found_keys, keys_found = {}, 0 end
  local found = { client = client, from = hash.from, to = hash.to }
  found_keys[key], keys_found = found, keys_found + 1
  return found
end

-- Who a key stands for, or nil and what is wrong with it.
local function holder(handle, key)
  local found, problem = found_keys[key], nil
  if not found then
    found, problem = find_key(handle, key)
    if not found then return nil, problem end
  end
  local client, now = found.client, os.time()
  if (client.ends and now >= client.ends) or (found.to and now >= found.to) then return nil, 'the API key has expired' end
  if found.from and now < found.from then return nil, 'the API key is not valid yet' end
  if client.refusal then return nil, 'the API key is refused: ' .. client.refusal end
  return client
end

local NO_KEY = 'an API key is needed: send one as `authorization: Bearer kaji_...`, `x-api-key` or `api-key`'

local function refuse_key(handle, path, status, message, challenge)
  refuse(handle, dialect_of(handle, path), status, message, { ['www-authenticate'] = challenge })
end

-- Whether a route is open to a client. What lies in a namespace that is not, is not there for it.
local function sees(client, route) return names(client.visible, route) end
local function may_use_route(client, route)
  return names(client.routes, route) and names(client.tenant_routes, route)
end
local function may_use_model(client, model)
  return names(client.models, model) and names(client.tenant_models, model)
end

local function is_for_some_models(client) return client.models ~= nil or client.tenant_models ~= nil end

-- The second check, when the route is known. model: nil on routes without one.
local function let_through(handle, path, client, model)
  local mark = handle:metadata()
  if not log_in(handle, path, mark) then return false end
  if not client then
    if mark:get('keys') ~= 'Required' then return true end
    refuse_key(handle, path, '401', NO_KEY, 'Bearer realm="kajitori"')
    return false
  end
  if model and not may_use_model(client, model) then
    refuse_key(handle, path, '403', 'this API key may not use the model ' .. quote(model))
    return false
  end
  local route = mark:get('route')
  if not route then return true end
  if not sees(client, route) then
    refuse_key(handle, path, '404', model and 'the model ' .. quote(model) .. ' does not exist, or this API key may not see it'
      or 'unsupported path: ' .. path)
    return false
  end
  if not may_use_route(client, route) then
    refuse_key(handle, path, '403', 'this API key may not use the route ' .. route
      .. (model and ', which serves the model ' .. quote(model) or ''))
    return false
  end
  return true
end

-- Whether the list of models shows one to who asks for it.
local function may_list(client, model)
  if not client then return model.keys ~= 'Required' end
  return may_use_model(client, model.id) and sees(client, model.route) and may_use_route(client, model.route)
end

-- The first check, before a byte of the body is read. Returns who sent the request, nil for nobody known, and whether
-- all has been said about it: it was refused or answered, or it is none of the requests that name a model.
local function identify(handle, headers, path)
  local mark = handle:metadata()
  local mode = mark:get('keys')
  local key = mode ~= 'Off' and presented_key(headers)
  local client, problem
  if key then
    client, problem = holder(handle, key)
    if not client then
      refuse_key(handle, path, '401', problem, 'Bearer realm="kajitori", error="invalid_token"')
      return nil, true
    end
    headers:replace('x-kajitori-key', client.id)
    if client.tenant ~= '' then headers:replace('x-kajitori-tenant', client.tenant) end
  elseif mode == 'Required' then
    refuse_key(handle, path, '401', NO_KEY, 'Bearer realm="kajitori"')
    return nil, true
  end
  if not log_in(handle, path, mark) then return client, true end
  if not mode then return client, false end
  if mark:get('listing') then
    answer_models(handle, path, mark:get('listing'), function(model) return may_list(client, model) end)
    return client, true
  end
  if not mark:get('route') then return client, false end
  if let_through(handle, path, client) and client then
    keep(handle, { path = path, key = client.id, tenant = client.tenant })
  end
  return client, true
end

-- A fault of these checks must not open a door: Envoy lets a request go on whose script has failed.
local function guarded(check)
  return function(handle, one, two, three)
    local fine, first, second = pcall(check, handle, one, two, three)
    if fine then return first, second end
    handle:logErr('a check of keys failed: ' .. tostring(first))
    handle:respond({ [':status'] = '500', ['content-type'] = 'application/json' },
      error_body('openai', '500', 'whether this request may pass could not be found out'))
    return nil, true
  end
end
identify, let_through = guarded(identify), guarded(let_through)
