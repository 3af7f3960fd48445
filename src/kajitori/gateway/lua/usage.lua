-- Reads what an answer says of the tokens it took, as it passes. The usage event that the client of a stream did not ask
-- for is taken out; an event of which a part has come waits for its rest, since nobody can use it before; and a stream that
-- ends without having said that it is whole gets an error event for its end. What is kept of an answer is bounded.
-- Needs counts.lua and endings.lua in front.
local MOST_KEPT = 65536
-- A JSON answer that says that it is no longer is waited for as a whole.
local MOST_WAITED_FOR = 16384
local LONGEST_HELD = 16384
local EVENTS_A_MARK = 16
local CHUNKS_WITH_MODEL = 3

local function tell(handle, told, model)
  if model and told ~= '!' then told = told .. ';' .. model end
  handle:streamInfo():dynamicMetadata():set(METADATA, 'usage', told)
end

-- Whether an answer came compressed and could not be inflated, or not any further: Envoy says at its end how much came of
-- how much, and goes no further than a hundredfold. tail: of what came.
local function is_cut_short(handle, tail)
  local trailers = handle:trailers()
  local before = trailers and tonumber(trailers:get('x-envoy-decompressor-gzip-compressed-bytes') or '')
  if not before then return false end
  local after = tonumber(trailers:get('x-envoy-decompressor-gzip-uncompressed-bytes')) or 0
  return after >= 99 * before or not find(tail, '[}%]]%s*$')
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
  if is_cut_short(handle, tail) then return tell(handle, '&') end
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

-- Takes in what a whole event says.
local function take_event(state, event)
  if state.recent then remember(state.recent, event) end
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
    state.final = told
    tell(state.handle, told, state.model)
  end
end

-- What is known of the usage of a stream that may be cut at any time.
local function seen(state)
  return '~' .. tostring(math.max(state.events - state.empty, 0)) .. state.started
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

-- Takes whole events out of `text`, of which `known` bytes were looked at before. Returns what is to go on and the event at its
-- end that is not whole.
local function split_events(state, text, strip, known)
  local out, at, from = {}, 1, math.max(1, known - 2)
  if state.parts then
    local mine = continue_event(state, text)
    if not mine then return text, '' end
    out[1], at, from = sub(text, 1, mine), mine + 1, mine + 1
  end
  while true do
    local _, last = find(text, '\r?\n\r?\n', from)
    if not last then break end
    local event = sub(text, at, last)
    take_event(state, event)
    if not (strip and only_usage(event)) then out[#out + 1] = event end
    at, from = last + 1, last + 1
  end
  return table.concat(out), sub(text, at)
end

-- Whether an event of which so much has come waits for its rest: not the last one, nor a comment, which keeps clients
-- awake, nor what is no event.
local function is_held(rest)
  return #rest <= LONGEST_HELD and find(rest, '^%l') and not find(rest, '^data: ?%[')
end

-- One chunk of a stream, with what was held of the one before; returns what is to go on and what is held of it.
local function take_chunk(state, held, text, strip)
  local go_on, rest = split_events(state, held .. text, strip, #held)
  if rest == '' or is_held(rest) then return go_on, rest end
  begin_event(state, rest)
  return go_on .. rest, ''
end

-- Says how a stream ended, and returns what is still to go to the client. held: of an event that has no end.
local function end_stream(state, held)
  local recent, begun = state.recent, state.parts and table.concat(state.parts)
  -- What is no event from its first line on is no stream, whatever its head says.
  if begun and recent and recent.count == 0 and not find(begun, '^%l*:') then recent = nil end
  if held ~= '' then take_event(state, held) end
  if begun then take_event(state, begun) end
  local told = state.final or ((state.events > 0 or state.started ~= '') and seen(state)) or ''
  if not recent or has_ended(recent) then
    if not state.final and told ~= '' then tell(state.handle, told, state.model) end
    return held
  end
  tell(state.handle, '!' .. told, state.model)
  -- A leg of the relay is followed by another one, or by an error of the relay's own.
  return state.leg and held or early_end(recent, begun ~= nil)
end

local function read_stream(handle, facts)
  local strip, needle = facts.strip ~= nil, facts.event
  local state = { handle = handle, dialect = facts.dialect, counts = {}, events = 0, next_mark = 1, looked = 0,
    started = '', empty = needle == '\n\n' and 1 or 0, recent = new_recent(facts.operation), leg = facts.leg }
  local recent, held, last = state.recent, '', nil
  -- It may become longer or shorter.
  if handle:headers():get('content-length') then handle:headers():remove('content-length') end
  for chunk in handle:bodyChunks() do
    local size = chunk:length()
    last = chunk
    if size > 0 then
      local text = chunk:getBytes(0, size)
      if not state.model and state.looked < CHUNKS_WITH_MODEL then
        state.model, state.looked = answered_model(text), state.looked + 1
      end
      local events, plain = look_at(text, size, needle)
      state.events = state.events + events
      -- Every few events it is said how many came: a stream that is reset runs no more of this script.
      if state.events >= state.next_mark and not state.final then
        tell(handle, seen(state), state.model)
        state.next_mark = state.events + EVENTS_A_MARK
      end
      if plain and held == '' and not state.parts then
        -- Most chunks are plain: they pass untouched.
        if recent then remember(recent, text) end
      else
        local go_on
        go_on, held = take_chunk(state, held, text, strip)
        if go_on ~= text then chunk:setBytes(go_on) end
      end
    end
  end
  local rest = end_stream(state, held)
  if rest == '' then return end
  if not last then
    handle:body(true):setBytes(rest)
  elseif not handle:trailers() then
    -- The last chunk has not gone on yet; behind it there is no other place, and before trailers none at all.
    last:setBytes(last:getBytes(0, last:length()) .. rest)
  end
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
  if status ~= '200' or facts.operation == 'realtime' then
    local instead = status == '502' and headers:get('x-kajitori-instead')
    if not instead and is_unusable(status, facts) then instead = 'unusable status ' .. status end
    if instead then
      -- Envoy answers by itself in place of what has no status; see local_replies.py.
      tell(handle, '^' .. sub(instead, -3))
      handle:streamInfo():dynamicMetadata():set(METADATA, 'instead', sub(instead, -3))
      return headers:remove(':status')
    end
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
