-- Runs once an attempt, in the chain of the chosen backend: path and body as that backend wants them. All
-- attempts share one set of headers, so it starts from what the client sent, as the request script kept it.
--
-- Context: id (of this context), paths (lines of an operation, a space and its `Way`), model (override), set (top-level members as JSON
-- text), remove (names of members).
local function escape_segment(text)
  return (text:gsub('[^%w%-._~]', function(char) return string.format('%%%02X', byte(char)) end))
end

-- Envoy copies a context each time that it is asked for, so there is little in it; what its lines say is kept here.
local CONTEXTS, contexts = {}, 0

local function read_context(given)
  local id = given:get('id')
  local known = CONTEXTS[id]
  if known then return known end
  if contexts >= 10000 then CONTEXTS, contexts = {}, 0 end
  local paths = {}
  for operation, path in string.gmatch(given:get('paths'), '(%S+) (%S+)') do paths[operation] = path end
  known = { paths = paths, model = given:get('model'), set = given:get('set'),
    remove = given:get('remove') }
  CONTEXTS[id], contexts = known, contexts + 1
  return known
end

local function with_model(query, model)
  return (('&' .. query):gsub('&model=[^&]*', function() return '&model=' .. escape_segment(model) end):sub(2))
end

local function upstream_path(context, facts)
  local template = context.paths[facts.operation]
  if not template then return nil end
  if not find(template, '{', 1, true) then return template end
  local query = facts.query
  if query and context.model then query = with_model(query, context.model) end
  local values = {
    model = escape_segment(context.model or facts.model or ''),
    id = facts.id or '',
    query = query and '?' .. query or '',
    more = query and '&' .. query or '',
  }
  return (template:gsub('{(%l+)}', values))
end

local function rewritten(context, text)
  local kept, seen = {}, {}
  local close = members(text, function(key, start, from, to)
    seen[key] = true
    if context.remove and context.remove[key] then return end
    local value = sub(text, from, to)
    if context.set and context.set[key] then value = context.set[key] end
    if key == 'model' and context.model then value = quote(context.model) end
    kept[#kept + 1] = sub(text, start, from - 1) .. value
  end)
  if not close then return text end
  if context.model and not seen.model then kept[#kept + 1] = '"model":' .. quote(context.model) end
  for key, value in pairs(context.set or {}) do
    if not seen[key] then kept[#kept + 1] = quote(key) .. ':' .. value end
  end
  return '{' .. table.concat(kept, ',') .. '}'
end

-- A form with another model; one that names none gets a part of its own.
local function with_form_model(text, boundary, model)
  local first, last, problem = form_field(text, boundary, 'model')
  if problem then return text end
  if first then return sub(text, 1, first - 1) .. model .. sub(text, last + 1) end
  return '--' .. boundary .. '\r\ncontent-disposition: form-data; name="model"\r\n\r\n' .. model .. '\r\n' .. text
end

function envoy_on_request(handle)
  local context = read_context(handle:filterContext())
  local facts = kept_facts(handle)
  local headers = handle:headers()
  local path = upstream_path(context, facts)
  if path then headers:replace(':path', path) end
  if not facts.read and not facts.form then return end
  local body = handle:body()
  if facts.form then
    if context.model then body:setBytes(with_form_model(body:getBytes(0, body:length()), facts.form, context.model)) end
  elseif context.model or context.set or context.remove then
    body:setBytes(rewritten(context, body:getBytes(0, body:length())))
  end
  -- Waiting for the body has made the headers stale. An attempt before this one may have sent another body.
  handle:headers():replace('content-length', tostring(body:length()))
end
