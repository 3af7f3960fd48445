-- Runs after admission: leaves out the backends that have nothing left for this request. The header names them, each with the
-- seconds until it has (0: it never will); it is the accountant's answer. Where an order was arranged before, that order is kept
-- without them. Where all are left out that a request of this dialect can go to, it is refused: the accountant knows of backends
-- that only another dialect can use.
--
-- Context of the route: groups (of the specifier, one an attempt: lists of cluster, name, weight). Needs scanner.lua, error
-- names, refusals.lua and facts.lua in front.
local HEADER, ORDER_METADATA = 'x-kajitori-exhausted', 'io.kajitori.order'
local USED_UP = 'the quota of each backend that can serve this request is used up'

local function choose(group, left)
  local ready, total = {}, 0
  for _, choice in ipairs(group) do
    if left[choice.cluster] then
      ready[#ready + 1] = choice
      total = total + choice.weight
    end
  end
  local mark = math.random() * total
  for _, choice in ipairs(ready) do
    mark = mark - choice.weight
    if mark < 0 then return choice.cluster end
  end
  return ready[#ready] and ready[#ready].cluster
end

local function arranged(handle)
  local known = handle:streamInfo():dynamicMetadata():get(ORDER_METADATA)
  if not (known and known.priority_groups) then return nil end
  local list = {}
  for at, group in ipairs(known.priority_groups) do list[at] = group.clusters[1].cluster_name end
  return list
end

-- groups: those that this request could go to. gone: seconds by name.
local function refuse_all(handle, groups, gone)
  local soonest
  for _, group in ipairs(groups) do
    for _, choice in ipairs(group) do
      local seconds = gone[choice.name]
      if seconds and seconds > 0 and (not soonest or seconds < soonest) then soonest = seconds end
    end
  end
  local facts = kept_facts(handle)
  local dialect = facts and facts.dialect or dialect_of(handle, handle:headers():get(':path'))
  if not soonest then return refuse(handle, dialect, '429', USED_UP, { ['x-should-retry'] = 'false' }) end
  local wait = string.format('%d', soonest)
  refuse(handle, dialect, '429', USED_UP .. '; it frees in ' .. wait .. ' s', { ['retry-after'] = wait })
end

local function leave_out(handle, text)
  local headers = handle:headers()
  local gone, left, clusters = {}, {}, {}
  for name, seconds in string.gmatch(text, '([^,=]+)=(%d+)') do gone[name] = tonumber(seconds) end
  local groups = handle:filterContext():get('groups')
  if not groups then return end
  for _, group in ipairs(groups) do
    for _, choice in ipairs(group) do left[choice.cluster] = not gone[choice.name] end
  end
  for _, cluster in ipairs(arranged(handle) or {}) do
    if left[cluster] then clusters[#clusters + 1] = cluster end
  end
  if #clusters == 0 then
    for _, group in ipairs(groups) do
      local cluster = choose(group, left)
      if cluster then
        left[cluster] = nil
        clusters[#clusters + 1] = cluster
      end
    end
  end
  if #clusters == 0 then
    return refuse_all(handle, groups, gone)
  end
  local order = {}
  for at, cluster in ipairs(clusters) do
    order[at] = { name = cluster, clusters = { { cluster_name = cluster, weight = 1 } } }
  end
  headers:replace('x-envoy-max-retries', string.format('%d', #clusters - 1))
  handle:streamInfo():dynamicMetadata():set(ORDER_METADATA, 'priority_groups', order)
  handle:clearRouteCache()
end

function envoy_on_request(handle)
  local text = handle:headers():get(HEADER)
  if not text then return end
  handle:headers():remove(HEADER)
  local fine, problem = pcall(leave_out, handle, text)
  if fine then return end
  -- A fault must not open a quota: Envoy lets a request go on whose script has failed.
  handle:logErr('which backends have quota left cannot be told: ' .. tostring(problem))
  refuse(handle, 'openai', '500', 'which backends have quota left could not be found out')
end
