-- The order in which the backends of a request are tried, where it is not the configured one: a client named its own,
-- or a backend asked to be left alone, or has enough to do. Needs memory.lua in front.
--
-- Metadata of the route: order (an id of what follows), order_table (tiers: lists of choices, each with cluster, name,
-- target, model, weight, limit; chain: header and allowed names; refuse_cooled, refuse_saturated, tell; keyless: some
-- have no credential of the gateway's).
local ORDER_METADATA = 'io.kajitori.order'
local ASKING_HEADER = 'x-gateway-decision'
local MOST_ATTEMPTS = 8  -- as in resilience/order.py
local ORDERS, orders_known = {}, 0

local function read_order(mark, id)
  local known = ORDERS[id]
  if known then return known end
  known = mark:get('order_table')
  known.by_name = {}
  for _, tier in ipairs(known.tiers) do
    for _, choice in ipairs(tier) do
      for _, name in ipairs({ choice.name, choice.short }) do
        local named = known.by_name[name] or {}
        named[#named + 1] = choice
        known.by_name[name] = named
      end
      known.limited = known.limited or choice.limit ~= nil
    end
  end
  if orders_known >= 4096 then ORDERS, orders_known = {}, 0 end
  ORDERS[id], orders_known = known, orders_known + 1
  return known
end

-- Requests under way by backend. A handle dies with its request, also one that a client leaves, and then a weak table
-- loses it; so the number is only known after a collection, which is made when it matters, and not too often.
local UNDER_WAY, WEAK = {}, { __mode = 'v' }
local collected_at, collection_seconds = -1, 0

local function live_requests(name)
  local kept, count = setmetatable({}, WEAK), 0
  for _, handle in pairs(UNDER_WAY[name].handles) do
    count = count + 1
    kept[count] = handle
  end
  UNDER_WAY[name] = { handles = kept, count = count }
  return count
end

local function is_saturated(choice, now)
  local known = choice.limit and UNDER_WAY[choice.name]
  if not known or known.count < choice.limit then return false end
  if now - collected_at >= 20 * collection_seconds then
    local begun = os.clock()
    collectgarbage()
    collected_at, collection_seconds = now, os.clock() - begun
  end
  return live_requests(choice.name) >= choice.limit
end

local function count_request(choice, handle)
  local known = UNDER_WAY[choice.name]
  if not known then
    known = { handles = setmetatable({}, WEAK), count = 0 }
    UNDER_WAY[choice.name] = known
  end
  known.count = known.count + 1
  known.handles[known.count] = handle
end

-- The backends that a client named, each a tier of its own, or nil and the refusal.
local function named_tiers(order, text)
  local tiers, allowed = {}, {}
  for _, name in ipairs(order.chain.allowed) do allowed[name] = true end
  for name in string.gmatch(text, '[^,%s]+') do
    local choices = order.by_name[name]
    if not choices or not (allowed[choices[1].name] or allowed[name]) then
      return nil, { '400', order.chain.header .. ' names ' .. quote(name)
        .. ', which is none of the backends that it may name here: ' .. table.concat(order.chain.allowed, ', ') }
    end
    for _, choice in ipairs(choices) do tiers[#tiers + 1] = { choice } end
    if #tiers > 16 then return nil, { '400', order.chain.header .. ' names more than 16 backends' } end
  end
  if #tiers == 0 then
    return nil, { '400', order.chain.header .. ' names no backend; it may name: ' .. table.concat(order.chain.allowed, ', ') }
  end
  return tiers
end

-- Legs of a hedged request agree on an order, of which each begins one further: its numbers come from the request's id,
-- and a further leg gets an id of its own, as in rescue/legs.py.
local function read_hedge(headers, leg)
  local id = headers:get('x-request-id') or ''
  local seed = 1
  for at = 1, #id do seed = (seed * 31 + byte(id, at)) % 2147483647 end
  if leg > 1 then headers:replace('x-request-id', id .. '~' .. leg) end
  return { leg = leg, seed = seed }
end

local function random_number(hedge)
  if not hedge then return math.random() end
  hedge.seed = (hedge.seed * 16807 + 1) % 2147483647
  return hedge.seed / 2147483647
end

local function begin_further(list, steps)
  if #list < 2 then return end
  for _ = 1, steps do
    local first = table.remove(list, 1)
    list[#list + 1] = first
  end
end

-- Takes choices out of `ready` at random by weight, and puts them behind `list`.
local function append_by_weight(list, ready, hedge)
  while #ready > 0 do
    local total, chosen = 0, #ready
    for _, choice in ipairs(ready) do total = total + choice.weight end
    local mark = random_number(hedge) * total
    for at, choice in ipairs(ready) do
      mark = mark - choice.weight
      if mark < 0 then chosen = at break end
    end
    list[#list + 1] = table.remove(ready, chosen)
  end
end

-- When a choice may be asked again, or nil for now: by its model, or as a whole.
local function ready_time(choice, facts, now)
  local model = choice.model or facts.model or ''
  local mine = cooled_until(choice.target .. '\n' .. model, now)
  local all = cooled_until(choice.target .. '\n', now)
  if mine and all then return math.max(mine, all) end
  return mine or all
end

-- Those that can be asked now in their order, those that are busy, those that are cooled (soonest ready first), and why.
local function sort_choices(tiers, facts, now, some_cooled)
  local list, saturated, cooled, why = {}, {}, {}, {}
  for _, tier in ipairs(tiers) do
    local ready, drawn = {}, nil
    if facts.hedge then
      -- Among all of them: so one that is left out for this leg leaves the others in their order.
      drawn = {}
      append_by_weight(drawn, { unpack(tier) }, facts.hedge)
    end
    for _, choice in ipairs(drawn or tier) do
      local time = some_cooled and ready_time(choice, facts, now)
      if time then
        cooled[#cooled + 1] = { choice = choice, ready = time }
        why[#why + 1] = choice.name .. ' cooled for ' .. math.ceil(time - now) .. ' s'
      elseif facts.excluded and find(',' .. facts.excluded .. ',', ',' .. choice.cluster .. ',', 1, true) then
        saturated[#saturated + 1] = choice
        why[#why + 1] = choice.name .. ' broke the stream off'
      elseif is_saturated(choice, now) then
        saturated[#saturated + 1] = choice
        why[#why + 1] = choice.name .. ' saturated (' .. choice.limit .. ' requests)'
      else
        ready[#ready + 1] = choice
      end
    end
    if drawn then
      for _, choice in ipairs(ready) do list[#list + 1] = choice end
    else
      append_by_weight(list, ready)
    end
  end
  if facts.hedge then begin_further(list, facts.hedge.leg - 1) end
  table.sort(cooled, function(one, other) return one.ready < other.ready end)
  return list, saturated, cooled, why
end

local function no_choice_is_ready(order, saturated, cooled, why, now)
  if #saturated == 0 and order.refuse_cooled then
    local seconds = string.format('%d', math.ceil(math.max(cooled[1].ready - now, 1)))
    return { '429', 'every backend asked to be left alone: ' .. table.concat(why, '; '), { ['retry-after'] = seconds } }
  end
  if #saturated > 0 and order.refuse_saturated then
    return { '503', 'no backend takes a further request: ' .. table.concat(why, '; '), { ['retry-after'] = '1' } }
  end
  return nil
end

-- Tells Envoy the order. It asks for the cluster again before each attempt. retries: how many there may be, or nil where a
-- policy says that.
local function set_order(handle, list, retries)
  local groups = {}
  for at, choice in ipairs(list) do
    groups[at] = { name = choice.cluster, clusters = { { cluster_name = choice.cluster, weight = 1 } } }
  end
  if retries then handle:headers():replace('x-envoy-max-retries', string.format('%d', retries)) end
  handle:streamInfo():dynamicMetadata():set(ORDER_METADATA, 'priority_groups', groups)
  handle:clearRouteCache()
end

local function names_of(list)
  local names = {}
  for at, choice in ipairs(list) do names[at] = choice.name end
  return table.concat(names, ', ')
end

local function tell_decision(handle, facts, text)
  facts.decision = text
  keep(handle, facts)
end

-- That the client sent a credential of its own, which goes to backends that the gateway has none for.
local function note_own_key(handle, facts)
  local headers = handle:headers()
  if headers:get('authorization') or headers:get('x-api-key') or headers:get('api-key') then
    facts.own_key = 'true'
    keep(handle, facts)
  end
end

-- To be called when the route is known. Returns nothing, or a refusal: status, message, headers (or nil).
local function arrange(handle, facts)
  local mark = handle:metadata()
  local id = mark:get('order')
  if not id then return nil end
  local some_cooled = memory ~= nil and memory.latest > os.time()
  local order = read_order(mark, id)
  if order.keyless then note_own_key(handle, facts) end
  local hedge = facts.hedge
  if not some_cooled and not order.special and not facts.excluded and not hedge then return nil end
  local headers = handle:headers()
  if order.tell == 'Always' or (order.tell == 'OnRequest' and headers:get(ASKING_HEADER)) then facts.tell = 'true' end
  if order.tell then headers:remove(ASKING_HEADER) end
  local tiers, why_named = order.tiers, nil
  local text = order.chain and headers:get(order.chain.header)
  if text then
    local refusal
    tiers, refusal = named_tiers(order, text)
    if not tiers then return refusal end
    headers:remove(order.chain.header)
    why_named = 'chain header ' .. order.chain.header
  end
  local now = tonumber(handle:timestamp()) / 1000
  local list, saturated, cooled, why = sort_choices(tiers, facts, now, some_cooled)
  if #why == 0 and not why_named and not order.limited and not hedge then
    if facts.tell then tell_decision(handle, facts, 'the configured order') end
    return nil
  end
  if #list == 0 then
    local refusal = no_choice_is_ready(order, saturated, cooled, why, now)
    if refusal then
      tell_decision(handle, facts, refusal[2])
      return refusal
    end
  end
  for _, choice in ipairs(saturated) do list[#list + 1] = choice end
  for _, item in ipairs(cooled) do list[#list + 1] = item.choice end
  if order.limited then count_request(list[1], handle) end
  if why_named then table.insert(why, 1, why_named) end
  if hedge then table.insert(why, 1, 'hedged, request ' .. hedge.leg) end
  if #why > 0 then
    tell_decision(handle, facts, names_of(list) .. ': ' .. table.concat(why, '; '))
  elseif facts.tell then
    tell_decision(handle, facts, 'the configured order')
  end
  set_order(handle, list, not mark:get('own_retries') and math.min(#list, MOST_ATTEMPTS) - 1 or nil)
  return nil
end
