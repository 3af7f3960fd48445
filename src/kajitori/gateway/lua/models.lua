-- `GET /v1/models` and one of them, from the list that the route table gives with its route: a line for each model and
-- route that serves it, with name, time, owner, route, and whether it asks for keys.
local LISTED = '([^\t\n]*)\t(%d+)\t([^\t\n]*)\t([^\t\n]*)\t(%a*)\n'

local function openai_model(model)
  return string.format('{"id":%s,"object":"model","created":%d,"owned_by":%s}', quote(model.id), model.created,
    quote(model.owner))
end

local function anthropic_model(model)
  return string.format('{"type":"model","id":%s,"display_name":%s,"created_at":"%s"}', quote(model.id),
    quote(model.id), os.date('!%Y-%m-%dT%H:%M:%SZ', model.created))
end

local function percent_decoded(text)
  return (text:gsub('%%(%x%x)', function(digits) return string.char(tonumber(digits, 16)) end))
end

-- Answers `path`, which is /v1/models or one below it, as the dialect has it. may_list: whether to show one.
local function answer_models(handle, path, listing, may_list)
  local dialect = dialect_of(handle, path)
  local shape = dialect == 'anthropic' and anthropic_model or openai_model
  local models, shown = {}, {}
  for id, created, owner, route, keys in string.gmatch(listing, LISTED) do
    local model = { id = percent_decoded(id), created = tonumber(created), owner = percent_decoded(owner), route = route,
      keys = keys }
    if not shown[model.id] and may_list(model) then
      shown[model.id] = true
      models[#models + 1] = model
    end
  end
  local wanted = string.match(path, '/models/([^?]+)')
  local body
  if wanted then
    wanted = percent_decoded(wanted)
    for _, model in ipairs(models) do
      if model.id == wanted then body = shape(model) end
    end
    if not body then return refuse(handle, dialect, '404', 'there is no model ' .. wanted) end
  else
    local told = {}
    for number, model in ipairs(models) do told[number] = shape(model) end
    local data = '[' .. table.concat(told, ',') .. ']'
    if dialect == 'anthropic' then
      local first, last = models[1], models[#models]
      body = '{"data":' .. data .. ',"has_more":false,"first_id":' .. (first and quote(first.id) or 'null')
        .. ',"last_id":' .. (last and quote(last.id) or 'null') .. '}'
    else
      body = '{"object":"list","data":' .. data .. '}'
    end
  end
  handle:respond({ [':status'] = '200', ['content-type'] = 'application/json' }, body)
end
