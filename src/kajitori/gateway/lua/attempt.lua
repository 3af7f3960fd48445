-- Runs once an attempt, in the chain of the chosen backend: path and body as that backend wants them. All
-- attempts share one set of headers, so it starts from what the client sent, as the request script kept it.
--
-- Context: schema, prefix, version (of the backend's dialect), model (override), set (top-level members as
-- JSON text), remove (names of members).
local function escape_segment(text)
  return (text:gsub('[^%w%-._~]', function(char) return string.format('%%%02X', byte(char)) end))
end

-- Operations of the Azure dialect that name the deployment in the path; `responses` names it in the body.
local AZURE_DEPLOYMENT = { ['/v1/chat/completions'] = '/chat/completions', ['/v1/embeddings'] = '/embeddings',
  ['/v1/completions'] = '/completions' }

local function upstream_path(context, path, model)
  if context.schema == 'AzureOpenAI' then
    local tail = AZURE_DEPLOYMENT[path]
    if tail then
      return '/openai/deployments/' .. escape_segment(model) .. tail .. '?api-version=' .. escape_segment(context.version)
    end
    return '/openai' .. path:gsub('^/v1', '') .. '?api-version=' .. escape_segment(context.version)
  end
  if context.prefix and sub(path, 1, 4) == '/v1/' then return context.prefix .. sub(path, 4) end
  return path
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
  for key, value in pairs(context.set or {}) do
    if not seen[key] then kept[#kept + 1] = quote(key) .. ':' .. value end
  end
  return '{' .. table.concat(kept, ',') .. '}'
end

function envoy_on_request(handle)
  local given = handle:filterContext()
  local context = {
    schema = given:get('schema'), prefix = given:get('prefix'), version = given:get('version'),
    model = given:get('model'), set = given:get('set'), remove = given:get('remove'),
  }
  local facts = handle:streamInfo():dynamicMetadata():get('io.kajitori').request
  local headers = handle:headers()
  headers:replace(':path', upstream_path(context, facts.path, context.model or facts.model))
  headers:replace('content-length', facts.length)
  if context.model or context.set or context.remove then
    local body = handle:body()
    body:setBytes(rewritten(context, body:getBytes(0, body:length())))
  end
end
