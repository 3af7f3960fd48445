-- Runs before admission on routes whose limits nobody is asked about: keeps back the requests that a limit concerns which is
-- used up. The accountant says which in a file (gateway/limits/used_up_file.py writes it), of which each worker looks at the first
-- line ten times a second at most, and only as requests come. Needs scanner.lua, error names, refusals.lua and
-- facts.lua in front, and USED_UP_FILE, ACCOUNTANT (its cluster) and LOOK_MILLISECONDS.
--
-- Where it cannot tell whom a limit concerns the accountant is asked; while that is away, such requests pass.
local HEAD, WAIT = 'kajitori-used-up-1', '{}'
local ASK_MILLISECONDS = 2000
local NO_SUCH_FILE = 2
local FACTS_HEADER, EXHAUSTED = 'x-kajitori-facts', 'x-kajitori-exhausted'
-- What is known now: nil where nothing is used up.
local known, first_line, looked_at = nil, nil, -math.huge

local function each_field(line)
  local fields = {}
  for field in string.gmatch(line .. '\t', '([^\t]*)\t') do fields[#fields + 1] = field end
  return fields
end

local function set_of(text)
  local found = {}
  for item in string.gmatch(text, '[^,]+') do found[item] = true end
  return found
end

local function numbers_of(text)
  local found = {}
  for item in string.gmatch(text, '[^,]+') do found[#found + 1] = item end
  return found
end

local function read_conditions(text)
  local found = {}
  for item in string.gmatch(text, '[^;]+') do
    local fact, inverted, kind, values = string.match(item, '^(%S+) (%d) (%a) ?(.*)$')
    found[#found + 1] = { fact = fact, inverted = inverted == '1', values = kind == 'V' and set_of(values) or nil }
  end
  return found
end

local READERS = {
  L = function(made, f)
    local facts = {}
    for fact in string.gmatch(f[4], '[^,]+') do facts[#facts + 1] = fact end
    made.limits[f[2]] = { asked = f[3] == '1', facts = facts, conditions = read_conditions(f[5]), name = f[6], counts = {},
      unpriced = {} }
  end,
  C = function(made, f)
    made.limits[f[2]].counts[f[3]] = { ends = tonumber(f[4]), resets = tonumber(f[5]), capacity = f[6], window = f[7],
      unit = f[8] ~= '' and f[8] or nil, message = f[9], name = made.limits[f[2]].name }
  end,
  U = function(made, f) made.limits[f[2]].unpriced[f[3]] = true end,
  R = function(made, f) made.routes[f[2]] = numbers_of(f[3]) end,
  K = function(made, f) made.keys[f[2]] = numbers_of(f[3]) end,
  A = function(made) made.everybody = true end,
}

local function read_file(text)
  local made = { limits = {}, routes = {}, keys = {} }
  local some = false
  for line in string.gmatch(text, '[^\n]+') do
    local fields = each_field(line)
    READERS[fields[1]](made, fields)
    some = true
  end
  return some and made or nil
end

local function look()
  local file, why, code = io.open(USED_UP_FILE)
  if not file then
    if code ~= NO_SUCH_FILE then
      if first_line then return end  -- as without a descriptor left: what was known holds until it can be read again
      error(why)
    end
    known, first_line = nil, nil
    return
  end
  local line = file:read('*l')
  if line ~= first_line then
    if sub(line or '', 1, #HEAD) ~= HEAD then error('it is none of ours') end
    known, first_line = read_file(file:read('*a')), line
  end
  file:close()
end

local function fact_of(handle, name)
  local headers = handle:headers()
  if name == 'model' then return headers:get('x-ai-eg-model') end
  if name == 'key' then return headers:get('x-kajitori-key') end
  if name == 'method' then return headers:get(':method') end
  if name == 'path' then return string.match(headers:get(':path'), '^[^?]*') end
  if name == 'tenant' then return headers:get('x-kajitori-tenant') end
  if name == 'client' then
    local address = string.match(handle:streamInfo():downstreamDirectRemoteAddress(), '^(.*):%d+$')
    return address and (string.match(address, '^%[(.*)%]$') or address)  -- the log has those of IPv6 without brackets
  end
  -- As accounting/route_names.py reads it.
  local kind, namespace, route, rule = string.match(handle:streamInfo():routeName(), '^(%a+)/([^/]+)/([^/]+)/rule/(%d+)')
  if name == 'rule' then return rule end
  return namespace and (kind == 'grpc' and 'grpc:' or '') .. namespace .. '/' .. route
end

-- The count under which a limit has a request, or nil if it does not hold for it.
local function count_name(limit, read)
  for _, condition in ipairs(limit.conditions) do
    local value = read(condition.fact)
    local good = value ~= nil and (not condition.values or condition.values[value] == true)
    if good == condition.inverted then return nil end
  end
  local values = {}
  for at, fact in ipairs(limit.facts) do
    values[at] = read(fact)
    if not values[at] then return nil end
  end
  return table.concat(values, '|')
end

-- The count that keeps a request back for longest, and whether somebody must be asked.
local function find_count(handle, now)
  local cache = {}
  local function read(name)
    if cache[name] == nil then
      local value = fact_of(handle, name)
      cache[name] = value and value ~= '' and value or false
    end
    return cache[name] or nil
  end
  local found, asked = nil, known.everybody
  for _, numbers in ipairs({ known.routes[read('route') or ''] or {}, known.keys[read('key') or ''] or {} }) do
    for _, number in ipairs(numbers) do
      local limit = known.limits[number]
      local name = count_name(limit, read)
      local count = name and limit.counts[name]
      if count and count.ends > now then
        if not found or count.ends > found.ends then found = count end
      elseif name and (limit.asked or limit.unpriced[read('model') or '']) then
        asked = true
      end
    end
  end
  return found, asked
end

local function as_duration(seconds)
  local hours, minutes = math.floor(seconds / 3600), math.floor(seconds % 3600 / 60)
  local text = string.format('%d', seconds % 60) .. 's'
  if hours > 0 then return string.format('%dh%dm', hours, minutes) .. text end
  return minutes > 0 and string.format('%dm', minutes) .. text or text
end

-- What clients of a dialect look at; limits/wording.py has the same for whom the accountant answers.
local function limit_headers(count, dialect, now)
  if not count.unit then return {} end
  local seconds = math.max(math.ceil(count.resets - now), 0)
  local found = {
    ['x-ratelimit-limit'] = count.capacity .. ', ' .. count.capacity .. ';w=' .. count.window,
    ['x-ratelimit-remaining'] = '0', ['x-ratelimit-reset'] = string.format('%d', seconds),
  }
  if dialect == 'openai' then
    found['x-ratelimit-limit-' .. count.unit] = count.capacity
    found['x-ratelimit-remaining-' .. count.unit] = '0'
    found['x-ratelimit-reset-' .. count.unit] = as_duration(seconds)
  elseif dialect == 'anthropic' then
    found['anthropic-ratelimit-' .. count.unit .. '-limit'] = count.capacity
    found['anthropic-ratelimit-' .. count.unit .. '-remaining'] = '0'
    found['anthropic-ratelimit-' .. count.unit .. '-reset'] = os.date('!%Y-%m-%dT%H:%M:%SZ', math.ceil(count.resets))
  end
  return found
end

-- So that the record says why.
local function note(handle, text)
  local metadata = handle:streamInfo():dynamicMetadata()
  local kept = (metadata:get(METADATA) or {}).request or {}
  kept.decision = text
  metadata:set(METADATA, 'request', kept)
end

local function refuse_for(handle, count, now)
  local headers = handle:headers()
  local facts = kept_facts(handle)
  local dialect = facts and facts.dialect or dialect_of(handle, headers:get(':path'))
  local wait = string.format('%d', math.max(math.ceil(count.ends - now), 1))
  local at = find(count.message, WAIT, 1, true)
  local message = sub(count.message, 1, at - 1) .. wait .. sub(count.message, at + #WAIT)
  local told = limit_headers(count, dialect, now)
  told['retry-after'] = wait
  note(handle, message)
  if sub(fact_of(handle, 'route') or '', 1, 5) == 'grpc:' then
    told[':status'], told['content-type'] = '200', 'application/grpc'
    told['grpc-status'], told['grpc-message'] = '8', message  -- RESOURCE_EXHAUSTED
    return handle:respond(told, nil)
  end
  refuse(handle, dialect, '429', message, told)
end

-- As Envoy would ask where it asks about every request.
local function ask(handle)
  local headers, info = handle:headers(), handle:streamInfo()
  local facts = kept_facts(handle)
  local told = {
    info:routeName(), headers:get('x-request-id') or '', facts and facts.who or '-', fact_of(handle, 'client') or '',
    headers:get('x-ai-eg-model') or '',
  }
  local asked, answer, body = pcall(handle.httpCall, handle, ACCOUNTANT, {
    [':method'] = headers:get(':method'), [':path'] = '/admit' .. headers:get(':path'), [':authority'] = 'accountant',
    [FACTS_HEADER] = table.concat(told, '|'),
  }, nil, ASK_MILLISECONDS)
  if not asked then return handle:logErr('the accountant cannot be asked: ' .. tostring(answer)) end
  local status = answer[':status']
  if status == '429' or status == '403' then
    local told_client = { [':status'] = status, ['content-type'] = answer['content-type'] }
    if answer['grpc-status'] then
      told_client[':status'], told_client['grpc-status'], told_client['grpc-message'] = '200', answer['grpc-status'], body
      body = nil
    end
    for name, value in pairs(answer) do
      if name == 'retry-after' or name == 'x-should-retry' or find(name, 'ratelimit-', 1, true) then told_client[name] = value end
    end
    handle:respond(told_client, body)
  elseif status == '200' and answer[EXHAUSTED] then
    handle:headers():replace(EXHAUSTED, answer[EXHAUSTED])
  end
end

-- Whether the accountant has to be asked; who is kept back has got an answer.
local function must_ask(handle, now)
  local count, asked = find_count(handle, now)
  if not count then return asked end
  refuse_for(handle, count, now)
end

function envoy_on_request(handle)
  local now = tonumber(handle:timestamp())
  if now - looked_at >= LOOK_MILLISECONDS or now < looked_at then
    looked_at = now
    local fine, problem = pcall(look)
    if not fine then
      -- Whom it keeps back is not known, so everybody is asked about.
      handle:logErr('what is used up cannot be read in ' .. USED_UP_FILE .. ': ' .. tostring(problem))
      known, first_line = { limits = {}, routes = {}, keys = {}, everybody = true }, nil
    end
  end
  if not known then return end
  local fine, asked = pcall(must_ask, handle, now / 1000)
  -- A fault must not open a limit: Envoy lets a request go on whose script has failed.
  if not fine then handle:logErr('whom a limit concerns cannot be told: ' .. tostring(asked)) end
  if asked then ask(handle) end
end
