-- What is kept of a request for whoever comes after the request script. Envoy makes an object of each member and copies it
-- again for each script that asks, so what is only logged and told to the accountant is one text.
local METADATA = 'io.kajitori'

-- who: what accounting/log_format.py reads as `Who`, in that order. The others are there where they are needed.
local function keep(handle, facts)
  local who = (facts.key or '') .. '|' .. (facts.tenant or '') .. '|' .. (facts.input_tokens or '') .. '|'
    .. (facts.output_tokens or '') .. '|' .. (facts.dialect or '') .. '|' .. (facts.operation or '') .. '|'
    .. (facts.stream or '')
  handle:streamInfo():dynamicMetadata():set(METADATA, 'request', {
    who = who, path = facts.path, model = facts.model, length = facts.length, strip = facts.strip, id = facts.id,
    query = facts.query, form = facts.form, own_key = facts.own_key, tell = facts.tell, decision = facts.decision,
    dialect = facts.dialect ~= 'openai' and facts.dialect or nil,
  })
end

-- What was kept, with the operation by its name, or nil.
local function kept_facts(handle)
  local kept = handle:streamInfo():dynamicMetadata():get(METADATA)
  local facts = kept and kept.request
  if facts then
    facts.operation = string.match(facts.who, '([^|]*)|[^|]*$')
    facts.dialect = facts.dialect or 'openai'
  end
  return facts
end
