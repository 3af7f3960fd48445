-- Runs once an attempt, after the configured credential was put in place: a credential that came with the request
-- takes its place.
--
-- Context: header, prefix (where it goes, and what before it), namespace, keys (of the metadata that has it),
-- fallback (whether the configured one serves where none came).
function envoy_on_request(handle)
  local context = handle:filterContext()
  local value = brought(handle, context)[1]
  if is_text(value) then
    local prefix = context:get('prefix')
    -- Who brings a whole Authorization header has written the prefix already.
    if string.lower(string.sub(value, 1, #prefix)) == string.lower(prefix) then prefix = '' end
    return handle:headers():replace(context:get('header'), prefix .. value)
  end
  if not context:get('fallback') then return refuse_without(handle) end
end
