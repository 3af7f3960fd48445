-- What is kept of a request for whoever comes after the request script, as texts: of a table Envoy makes an object for each
-- member, and another copy for each script that asks. Only what few requests have is in a table, `request`.
local METADATA = 'io.kajitori'

-- who: what accounting/log_format.py reads as `Who`, in that order.
local function keep(handle, facts)
  local metadata = handle:streamInfo():dynamicMetadata()
  metadata:set(METADATA, 'who', (facts.key or '') .. '|' .. (facts.tenant or '') .. '|' .. (facts.input_tokens or '') .. '|'
    .. (facts.output_tokens or '') .. '|' .. (facts.dialect or '') .. '|' .. (facts.operation or '') .. '|'
    .. (facts.stream or ''))
  metadata:set(METADATA, 'path', facts.path)
  if facts.model then metadata:set(METADATA, 'model', facts.model) end
  local dialect = facts.dialect
  if dialect == 'openai' then dialect = nil end
  if dialect or facts.strip or facts.id or facts.query or facts.form or facts.own_key or facts.tell or facts.decision
    or facts.leg then
    metadata:set(METADATA, 'request', {
      strip = facts.strip, id = facts.id, query = facts.query, form = facts.form, own_key = facts.own_key,
      tell = facts.tell, decision = facts.decision, dialect = dialect, leg = facts.leg,
    })
  end
end

-- The members of `request`; `who`, `path` and `model` as they were kept; the operation by its name; and whether a body of
-- JSON was read, so that all of it is there. Or nil.
local function kept_facts(handle)
  local kept = handle:streamInfo():dynamicMetadata():get(METADATA)
  if not kept or not kept.who then return nil end
  local facts = kept.request or {}
  local tokens, operation = string.match(kept.who, '^[^|]*|[^|]*|([^|]*)|[^|]*|[^|]*|([^|]*)|')
  facts.operation, facts.read = operation, tokens ~= ''
  facts.dialect = facts.dialect or 'openai'
  facts.who, facts.path, facts.model = kept.who, kept.path, kept.model
  return facts
end
