-- Finds a field of a multipart form without decoding the files beside it.
local MOST_PARTS = 1000

-- The boundary that a content type names, or nil.
local function form_boundary(content_type)
  if not content_type or not find(content_type:lower(), '^multipart/form%-data') then return nil end
  local quoted = string.match(content_type, '[;%s][bB][oO][uU][nN][dD][aA][rR][yY]="([^"]+)"')
  return quoted or string.match(content_type, '[;%s][bB][oO][uU][nN][dD][aA][rR][yY]=([^;%s"]+)')
end

-- Where the value of the field `name` stands in `text` (first, last), or nil, and what is wrong with the form if
-- something is. A form without the field is not wrong.
local function form_field(text, boundary, name)
  local delimiter = '--' .. boundary
  if sub(text, 1, #delimiter) ~= delimiter then return nil, nil, 'it does not begin with its boundary' end
  delimiter = '\r\n' .. delimiter
  local at, first, last = #delimiter - 1, nil, nil
  for _ = 1, MOST_PARTS do
    if sub(text, at, at + 1) == '--' then return first, last end
    local begins = string.match(text, '^[ \t]*\r\n()', at)
    local ends = begins and find(text, '\r\n\r\n', begins - 2, true)
    if not ends then return nil, nil, 'the head of a part does not end' end
    local following = find(text, delimiter, ends + 2, true)
    if not following then return nil, nil, 'a part does not end' end
    local head = sub(text, begins, ends + 1)
    local disposition = string.match('\r\n' .. head:lower(), '\r\ncontent%-disposition:([^\r]*)') or ''
    local named = string.match(disposition, '[;%s]name%s*=%s*"([^"]*)"')
      or string.match(disposition, '[;%s]name%s*=%s*([^;%s"]+)')
    if named and find(named, '[\\%%]') then return nil, nil, 'the name of a part is escaped' end
    if named == name then
      if first then return nil, nil, '`' .. name .. '` is there more than once' end
      first, last = ends + 4, following - 1
    end
    at = following + #delimiter
  end
  return nil, nil, 'it has more than ' .. MOST_PARTS .. ' parts'
end
