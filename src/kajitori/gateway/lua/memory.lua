-- What all Lua of one Envoy process remembers together: until when a target is left alone. Scripts run in a state of
-- their own for each place in the chain and each worker, and Lua values cannot go from one to another; so this is a piece
-- of memory at an address that all of them know. Whoever comes first maps it, which the kernel lets only one do.
--
-- A target is an AIServiceBackend (namespace/name), a line feed, and a model or nothing for all of its models.
-- Workers may write at once: a lost write costs one more attempt at a target that says no.
local has_ffi, ffi = pcall(require, 'ffi')
local ADDRESSES = { 0x6b0000000000, 0x2b00000000 }
local MARK, PLACES, LOOKED_AT = 'kajitori-order-1', 1024, 8

-- Whether a process has memory to read and write there, and all of it.
local function is_mapped(address, size)
  local file = io.open('/proc/self/maps')
  if not file then return false end
  local found = false
  for line in file:lines() do
    local from, to, rights = string.match(line, '^(%x+)%-(%x+) (....)')
    if from and tonumber(from, 16) <= address and tonumber(to, 16) >= address + size then
      found = rights == 'rw-p'
    end
  end
  file:close()
  return found
end

local function mapped_memory()
  if not has_ffi then return nil end
  ffi.cdef([[
    void *mmap(void *address, size_t length, int protection, int flags, int file, long offset);
    int munmap(void *address, size_t length);
    typedef struct { int32_t first, second; double ready, level; } kajitori_target;
    typedef struct { char mark[16]; double latest; kajitori_target targets[1024]; } kajitori_memory;
  ]])
  local size = ffi.sizeof('kajitori_memory')
  for _, address in ipairs(ADDRESSES) do
    local wanted = ffi.cast('void *', address)
    -- Read and write; private, anonymous, and never in the place of something else.
    local got = ffi.C.mmap(wanted, size, 3, 0x100022, -1, 0)
    local memory = ffi.cast('kajitori_memory *', wanted)
    if got == wanted then
      ffi.copy(memory.mark, MARK, 16)
      return memory
    end
    -- A kernel before 4.17 gives another place where this one is taken.
    if got ~= ffi.cast('void *', -1) then ffi.C.munmap(got, size) end
    if is_mapped(address, size) then
      local mark = ffi.string(memory.mark, 16)
      if mark == MARK or mark == string.rep('\0', 16) then return memory end
    end
  end
  return nil
end

local _, memory = pcall(mapped_memory)
-- Without it nothing is cooled, and each request finds out for itself.
if type(memory) ~= 'cdata' then memory = nil end

local HASHES, hashes_known = {}, 0
local function hashes(target)
  local known = HASHES[target]
  if known then return known[1], known[2] end
  local first, second = 5381, 7
  for at = 1, #target do
    local char = string.byte(target, at)
    first = bit.tobit(first * 33 + char)
    second = bit.tobit(second * 65599 + char)
  end
  if hashes_known >= 4096 then HASHES, hashes_known = {}, 0 end
  HASHES[target], hashes_known = { first, second }, hashes_known + 1
  return first, second
end

-- The place of a target, and whether it is there already; else the one that is free or was ready first.
local function find_place(target)
  local first, second = hashes(target)
  local best
  for step = 0, LOOKED_AT - 1 do
    local place = memory.targets[(first + step) % PLACES]
    if place.first == first and place.second == second then return place, true end
    if not best or place.ready < best.ready then best = place end
  end
  return best, false
end

-- Seconds since 1970 when a target may be asked again, or nil if it may be now.
local function cooled_until(target, now)
  local place, found = find_place(target)
  return found and place.ready > now and place.ready or nil
end

-- Leaves a target alone for so many seconds, or, if that is nil, for `default` seconds, and twice as long each time
-- that it says no again; for `most` seconds at the longest.
local function cool(target, seconds, now, default, most)
  if not memory then return end
  local place, found = find_place(target)
  if not found then
    place.first, place.second = hashes(target)
    place.ready, place.level = 0, 0
  end
  if seconds then
    place.level = 0
  elseif place.ready > now then
    return  -- one of several requests that were under way when it said no
  else
    place.level = now - place.ready < most and place.level + 1 or 1
    seconds = default * 2 ^ math.min(place.level - 1, 30)
  end
  local ready = now + math.min(seconds, most)
  if ready > place.ready then place.ready = ready end
  if place.ready > memory.latest then memory.latest = place.ready end
end
