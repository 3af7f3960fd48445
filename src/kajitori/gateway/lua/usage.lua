-- Reads what an answer says of the tokens it took, as it passes: nothing is held back but the usage event that the
-- client of a stream did not ask for, which is taken out. What is kept of an answer is bounded.
-- Needs counts.lua in front.
local MOST_KEPT = 65536
-- A JSON answer that says that it is no longer is waited for as a whole.
local MOST_WAITED_FOR = 16384
local LONGEST_HELD = 16384
local EVENTS_A_MARK = 16
local CHUNKS_WITH_MODEL = 3

local function tell(handle, told, model)
  if model then told = told .. ';' .. model end
  handle:streamInfo():dynamicMetadata():set(METADATA, 'usage', told)
end

-- Says what the answer tells of its usage. head, tail: its beginning and its end, or all of it twice.
local function tell_answer(handle, facts, head, tail)
  local object = usage_object(tail)
  if not object and head ~= tail then
    -- Usage that stands before the content of a long answer: the members are seen until one is cut.
    members(head, function(key, _, from, to)
      if key == 'usage' then object = sub(head, from, to) end
    end)
  end
  local counts = {}
  if object and take_counts(counts, object) then
    tell(handle, told_counts(counts, facts.dialect), answered_model(head) or answered_model(tail))
  end
end

-- length: as the answer's head says it, or nil.
local function read_json_answer(handle, facts, length)
  if length and length <= MOST_WAITED_FOR then
    -- It comes in one piece or two; waiting for all of it is cheaper than to look at each.
    local body = handle:body()
    local text = body and body:getBytes(0, body:length())
    return text and tell_answer(handle, facts, text, text)
  end
  local head, tail = '', ''
  for chunk in handle:bodyChunks() do
    local size = chunk:length()
    if size > 0 then
      if head == '' then
        head = chunk:getBytes(0, math.min(size, MOST_KEPT))
        tail = size <= MOST_KEPT and head or chunk:getBytes(size - MOST_KEPT, MOST_KEPT)
      elseif size >= MOST_KEPT then
        tail = chunk:getBytes(size - MOST_KEPT, MOST_KEPT)
      else
        tail = tail .. chunk:getBytes(0, size)
        if #tail > 2 * MOST_KEPT then tail = sub(tail, -MOST_KEPT) end
      end
    end
  end
  tell_answer(handle, facts, head, tail)
end

-- Whether a usage object begins in `text`; many providers put `"usage":null` into every other event. Events are full of
-- quotes, so it is the letter behind that is looked for.
local function has_usage(text)
  local place, last = find(text, 'usage"', 1, true)
  while last do
    if byte(text, place - 1) == 34 and object_behind(text, last + 1) then return true end
    place, last = find(text, 'usage"', last + 1, true)
  end
  return false
end

-- True for a whole event that carries usage and nothing else.
local function only_usage(event)
  return find(event, '"choices"%s*:%s*%[%s*%]') and find(event, '"usage"%s*:%s*{') and true or false
end

-- How many events with output are in a chunk, and whether it is of whole events without usage, as most are.
local function look_at(text, size, needle)
  local events, at = 0, 1
  while at <= size do
    local _, last = find(text, needle, at, true)
    if not last then break end
    events, at = events + 1, last + 1
  end
  return events, byte(text, size) == 10 and byte(text, size - 1) == 10 and not has_usage(text)
end

-- What is known of a stream so far; `take` reads a whole event.
local function take_event(state, event)
  if not has_usage(event) then return end
  local object = usage_object(event)
  if not object or not take_counts(state.counts, object) then return end
  if state.sums then  -- each answer of a session has its own
    for name, value in pairs(state.counts) do state.sums[name] = (state.sums[name] or 0) + value end
    state.counts = {}
  end
  -- What Anthropic says at the start is the input; the output follows with the last events.
  local told = told_counts(state.sums or state.counts, state.dialect)
  if find(event, '"message_start"', 1, true) then
    state.started = ',' .. told
  else
    state.final = true
    tell(state.handle, told, state.model)
  end
end

-- What is known of a stream that may be cut at any time.
local function tell_seen(state)
  tell(state.handle, '~' .. tostring(math.max(state.events - state.empty, 0)) .. state.started, state.model)
end

-- Begins with an event that is not whole and passes as it comes; its end is looked at when that comes.
local function begin_event(state, text)
  state.parts, state.size, state.tail = { text }, #text, sub(text, -3)
end

-- Goes on with it. Returns how many bytes of `text` belong to it, or nil if all do and it is not whole yet.
local function continue_event(state, text)
  local probe = state.tail .. text
  local _, last = find(probe, '\r?\n\r?\n')
  local mine = last and last - #state.tail
  local parts = state.parts
  parts[#parts + 1] = mine and sub(text, 1, mine) or text
  if mine then
    state.parts = nil
    take_event(state, table.concat(parts))
    return mine
  end
  state.tail = sub(probe, -3)
  state.size = state.size + #text
  if state.size > 2 * MOST_KEPT then
    -- The beginning says what kind of event it is, the end has the usage.
    local whole = table.concat(parts)
    state.parts = { sub(whole, 1, 256), sub(whole, -MOST_KEPT) }
    state.size = MOST_KEPT + 256
  end
  return nil
end

-- Takes whole events out of `text`. Returns what is to go on and the event at its end that is not whole.
local function split_events(state, text, strip)
  local out, at = {}, 1
  if state.parts then
    local mine = continue_event(state, text)
    if not mine then return text, '' end
    out[1], at = sub(text, 1, mine), mine + 1
  end
  while true do
    local _, last = find(text, '\r?\n\r?\n', at)
    if not last then break end
    local event = sub(text, at, last)
    take_event(state, event)
    if not (strip and only_usage(event)) then out[#out + 1] = event end
    at = last + 1
  end
  return table.concat(out), sub(text, at)
end

local function read_stream(handle, facts)
  local strip, needle = facts.strip ~= nil, facts.event
  local state = { handle = handle, dialect = facts.dialect, counts = {}, events = 0,
    next_mark = 1, looked = 0, started = '', empty = needle == '\n\n' and 1 or 0 }
  local kept = ''
  for chunk in handle:bodyChunks() do
    local size = chunk:length()
    if size > 0 then
      local text = chunk:getBytes(0, size)
      if not state.model and state.looked < CHUNKS_WITH_MODEL then
        state.model, state.looked = answered_model(text), state.looked + 1
      end
      local events, plain = look_at(text, size, needle)
      state.events = state.events + events
      -- Every few events it is said how many came: a stream that is cut runs no more of this script.
      if state.events >= state.next_mark and not state.final then
        tell_seen(state)
        state.next_mark = state.events + EVENTS_A_MARK
      end
      -- Most chunks are plain: they pass untouched.
      if not plain or kept ~= '' or state.parts then
        local go_on, rest = split_events(state, kept .. text, strip)
        kept = ''
        if strip and #rest <= LONGEST_HELD and not find(rest, '^data: ?%[') then
          kept = rest  -- it may be the usage event
        elseif rest ~= '' then
          begin_event(state, rest)
          go_on = go_on .. rest
        end
        if strip then chunk:setBytes(go_on) end
      end
    elseif kept ~= '' then
      chunk:setBytes(kept)  -- the stream ends within an event
      take_event(state, kept)
      kept = ''
    end
  end
  if state.parts then take_event(state, table.concat(state.parts)) end
  if not state.final and state.events > 0 then tell_seen(state) end
end

-- Reads the events of a session over a WebSocket, which come as unmasked text from the provider.
local function read_session(handle, facts)
  local state = { handle = handle, dialect = facts.dialect, counts = {}, sums = {} }
  local kept = ''
  for chunk in handle:bodyChunks() do
    local size = chunk:length()
    if size > 0 then
      local text = kept .. chunk:getBytes(0, size)
      kept = ''
      local place = find(text, '"response.done"', 1, true)
      while place do
        local opens = find(text, '{[^{}"]*"type"%s*:%s*"response.done"', math.max(1, place - 64))
          or find(text, '{[^{}]*"response.done"', math.max(1, place - 256))
        pieces = 0
        local last = opens and value_end(text, opens)
        if not last then
          kept = sub(text, opens or place, (opens or place) + 4 * MOST_KEPT)
          break
        end
        take_event(state, sub(text, opens, last))
        place = find(text, '"response.done"', last, true)
      end
    end
  end
end

-- The mark of an event of each operation whose answers tell usage.
local EVENTS = {}
for _, operation in pairs(OPERATIONS) do
  if operation.usage then EVENTS[operation.dialect .. '/' .. operation.name] = operation.event end
end

function envoy_on_response(handle)
  local facts = kept_facts(handle)
  if not facts then return end
  local headers = handle:headers()
  local status = headers:get(':status')
  if status == '101' and facts.operation ~= 'realtime' then
    -- What follows would be no HTTP. Envoy answers by itself in place of what has no status; see local_replies.py.
    return headers:remove(':status')
  end
  facts.event = EVENTS[facts.dialect .. '/' .. facts.operation]
  if not facts.event and not facts.strip then return end
  if status == '101' then return read_session(handle, facts) end
  if byte(status) ~= 50 then return end
  local kind = headers:get('content-type')
  if not kind or headers:get('content-encoding') then return end
  if find(kind, 'text/event-stream', 1, true) then return read_stream(handle, facts) end
  if find(kind, 'json', 1, true) then
    local length = headers:get('content-length')
    return read_json_answer(handle, facts, length and tonumber(length))
  end
end
