-- SHA-256 and HMAC on machine integers. LuaJIT makes code of it: a block of 64 bytes takes well below a
-- microsecond, and a prompt of a few KB costs less than the JSON scan before it.
local ffi, bit = require('ffi'), require('bit')
local bxor, band, ror, rshift, bswap, tobit, tohex = bit.bxor, bit.band, bit.ror, bit.rshift, bit.bswap, bit.tobit, bit.tohex
local ROUND = ffi.new('uint32_t[64]', {
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
  0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
  0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
  0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
  0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
  0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
  0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
  0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
})
local START = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 }
local words, state, out, pad = ffi.new('int32_t[64]'), ffi.new('int32_t[8]'), ffi.new('int32_t[8]'), ffi.new('uint8_t[64]')

-- Takes in `count` blocks of 64 bytes that start at `data`.
local function absorb(data, count)
  local source = ffi.cast('const int32_t*', data)
  for block = 0, count - 1 do
    for i = 0, 15 do words[i] = bswap(source[block * 16 + i]) end
    for i = 16, 63 do
      local w15, w2 = words[i - 15], words[i - 2]
      words[i] = tobit(words[i - 16] + words[i - 7] + bxor(ror(w15, 7), ror(w15, 18), rshift(w15, 3))
        + bxor(ror(w2, 17), ror(w2, 19), rshift(w2, 10)))
    end
    local a, b, c, d, e, f, g, h = state[0], state[1], state[2], state[3], state[4], state[5], state[6], state[7]
    for i = 0, 63 do
      local t1 = tobit(h + bxor(ror(e, 6), ror(e, 11), ror(e, 25)) + bxor(g, band(e, bxor(f, g))) + ROUND[i] + words[i])
      local t2 = tobit(bxor(ror(a, 2), ror(a, 13), ror(a, 22)) + bxor(band(a, b), band(c, bxor(a, b))))
      h, g, f, e, d, c, b, a = g, f, e, tobit(d + t1), c, b, a, tobit(t1 + t2)
    end
    state[0], state[1], state[2], state[3] =
      tobit(state[0] + a), tobit(state[1] + b), tobit(state[2] + c), tobit(state[3] + d)
    state[4], state[5], state[6], state[7] =
      tobit(state[4] + e), tobit(state[5] + f), tobit(state[6] + g), tobit(state[7] + h)
  end
end

local function big_endian(value)
  return string.char(band(rshift(value, 24), 255), band(rshift(value, 16), 255), band(rshift(value, 8), 255), band(value, 255))
end

local function start()
  for i = 0, 7 do state[i] = tobit(START[i + 1]) end
end

-- Takes in what is left and the padding. before: bytes that were taken in already, in whole blocks.
local function finish(text, before)
  local size = #text
  local whole = math.floor(size / 64)
  absorb(text, whole)
  local tail = text:sub(whole * 64 + 1) .. '\128'
  size = size + before
  tail = tail .. string.rep('\0', (56 - #tail) % 64) .. big_endian(math.floor(size / 0x20000000)) .. big_endian(tobit(size * 8))
  absorb(tail, #tail / 64)
end

local function digest()
  for i = 0, 7 do out[i] = bswap(state[i]) end
  return ffi.string(out, 32)
end

-- The digest of `text`, 32 bytes.
local function sha256(text)
  start()
  finish(text, 0)
  return digest()
end

-- The digest that was made last, in hexadecimal.
local function last_digest_hex()
  return tohex(state[0]) .. tohex(state[1]) .. tohex(state[2]) .. tohex(state[3])
    .. tohex(state[4]) .. tohex(state[5]) .. tohex(state[6]) .. tohex(state[7])
end

local function sha256_hex(text)
  sha256(text)
  return last_digest_hex()
end

local function keyed(key, mask, text)
  local size = #key
  ffi.copy(pad, key, size)
  ffi.fill(pad + size, 64 - size)
  for i = 0, 63 do pad[i] = bxor(pad[i], mask) end
  start()
  absorb(pad, 1)
  finish(text, 64)
  return digest()
end

local function hmac(key, text)
  if #key > 64 then key = sha256(key) end
  return keyed(key, 0x5c, keyed(key, 0x36, text))
end

local function hmac_hex(key, text)
  hmac(key, text)
  return last_digest_hex()
end
