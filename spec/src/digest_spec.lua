local digest = require("parley.core").digest

describe("digest", function()
  it("offers what its stub says", function()
    local stub = dofile("lua/parley/core/digest.lua")
    for name in pairs(digest) do
      assert.is_function(stub[name], name)
      stub[name] = nil
    end
    assert.same({}, stub)
  end)

  -- The first is RFC 7693's own, appendix A; the second the reference implementation's; the rest Python's hashlib.
  local vectors = {
    { "abc", 64, "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1"
      .. "7d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923" },
    { "", 64, "786a02f742015903c6c6fd852552d272912f4740e15847618a86e217f71f5419"
      .. "d25e1031afee585313896444934eb04b903a685b1448b755d56f701afe9be2ce" },
    { "abc", 32, "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319" },
    { "", 32, "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8" },
    { "abc", 16, "cf4ab791c62b8d2b2109c90275287816" },
    { "abc", 20, "384264f676f39536840523f284921cdc68b6846b" },
  }

  it("agrees with published vectors", function()
    for _, vector in ipairs(vectors) do
      assert.equal(vector[3], digest.hex(digest.blake2b(vector[1], vector[2])))
      assert.equal(vector[3], digest.hex(digest.new(vector[2]):update(vector[1]):final()))
    end
  end)

  it("gives 32 bytes by default", function()
    assert.equal(32, #digest.blake2b("x"))
    assert.equal(digest.blake2b("x"), digest.new():update("x"):final())
  end)

  it("does not care how the input is cut", function()
    local bytes = ("0123456789\0\xFF"):rep(50)
    local whole = digest.blake2b(bytes)
    for piece = 1, 140 do
      local state = digest.new()
      for at = 1, #bytes, piece do
        assert.equal(state, state:update(bytes:sub(at, at + piece - 1)))
      end
      assert.equal(whole, state:final())
    end
  end)

  it("keeps many states apart", function()
    local states = {}
    for i = 1, 100 do
      states[i] = digest.new():update("a" .. i)
    end
    collectgarbage()
    for i = 1, 100 do
      assert.equal(digest.blake2b("a" .. i .. "b"), states[i]:update("b"):final())
    end
  end)

  it("raises on misuse", function()
    assert.error_matches(function() digest.blake2b("x", 15) end, "16 to 64")
    assert.error_matches(function() digest.blake2b("x", 65) end, "16 to 64")
    assert.error_matches(function() digest.new(0) end, "16 to 64")
    assert.error_matches(function() digest.blake2b() end, "string expected")
    assert.error_matches(function() digest.hex(nil) end, "string expected")
    assert.error_matches(function() digest.new():update(nil) end, "string expected")
    local state = digest.new()
    state:final()
    assert.error_matches(function() state:final() end, "final")
    assert.error_matches(function() state:update("x") end, "final")
    assert.error_matches(function() digest.new().update(io.stdout, "x") end, "parley.digest")
  end)

  it("writes hexadecimal digits", function()
    assert.equal("", digest.hex(""))
    assert.equal("0001ff7f", digest.hex("\0\1\xFF\x7F"))
  end)

  it("is readable", function()
    local state = digest.new(20)
    assert.equal("parley.digest (open, 20 bytes)", tostring(state))
    state:final()
    assert.equal("parley.digest (final, 20 bytes)", tostring(state))
  end)
end)
