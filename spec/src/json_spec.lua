local helper = require "spec.helper"
local uv = require "luv"
local json = require("parley.core").json

---Check that decoding fails at a byte, with a word in the message.
local function assert_fault(text, offset, word, options)
  local value, err = json.decode(text, options)
  assert.is_nil(value, text)
  assert.equal("EJSON", err.code)
  assert.equal(offset, err.offset, text .. ": " .. err.message)
  assert.truthy(err.message:find(word, 1, true), text .. ": " .. err.message)
  assert.truthy(err.message:find("byte " .. offset, 1, true))
end

local function assert_decodes(expected, text, options)
  local value, err = json.decode(text, options)
  assert.is_nil(err)
  assert.equal(expected, value)
  assert.equal(math.type(expected), math.type(value), text)
end

---Check that encoding fails, naming a path and a reason.
local function assert_refused(value, path, word, options)
  local text, err = json.encode(value, options)
  assert.is_nil(text)
  assert.equal("EJSON", err.code)
  assert.equal(("cannot encode %s: "):format(path), err.message:sub(1, #path + 16))
  assert.truthy(err.message:find(word, 1, true), err.message)
end

local function nested(depth)
  return ("["):rep(depth) .. ("]"):rep(depth)
end

describe("json", function()
  it("offers what its stub says", function()
    local stub = dofile("lua/parley/core/json.lua")
    for name, member in pairs(json) do
      if type(member) == "function" then
        assert.is_function(stub[name], name)
        stub[name] = nil
      end
    end
    assert.same({}, stub)
  end)

  it("opens as often as it is asked to, with one null", function()
    package.loaded["parley.core"] = nil
    local again = require("parley.core").json
    assert.equal(json.null, again.null)
    assert.equal(json.array_metatable, again.array_metatable)
    assert.equal("[null]", json.encode { again.null })
  end)

  describe("null", function()
    it("is itself, readable and true in a condition", function()
      assert.equal(json.null, json.decode("null"))
      assert.equal("null", tostring(json.null))
      assert.truthy(json.null)
      assert.equal('{"a":null}', json.encode { a = json.null })
    end)
  end)

  describe("decode", function()
    it("reads every kind of value", function()
      assert_decodes(true, "true")
      assert_decodes(false, " false\r\n\t")
      assert_decodes("x", '"x"')
      local value = json.decode('{"a":[1,{"b":[]}],"":2}')
      assert.same({ a = { 1, { b = {} } }, [""] = 2 }, value)
    end)

    it("lets an empty array stay one, and an empty object", function()
      local value = json.decode('{"array":[],"object":{}}')
      assert.is_true(json.is_array(value.array))
      assert.is_false(json.is_array(value.object))
      assert.equal('{"array":[],"object":{}}', json.encode(value, { sort_keys = true }))
    end)

    it("lets the last of two like keys win", function()
      assert.same({ a = 3 }, json.decode('{"a":1,"a":{"b":2},"a":3}'))
    end)

    it("refuses, when strict, what would be lost", function()
      for text, message in pairs {
        ['{"a":1,"b":[{"c":1,"d":2,"c":1}]}'] = 'the key "c" comes twice',
        ['{"a":null,"\\u0061":1}'] = 'the key "a" comes twice',
        ['{"\\u0000b\\u0000":1,"\\u0000b\\u0000":2}'] = 'the key "\\u0000b\\u0000" comes twice',
        ["[1, -1e999]"] = "the number -1e999 is too large",
      } do
        local value, err = json.decode(text, { strict = true })
        assert.is_nil(value)
        assert.same({ "EJSON", message }, { err.code, err.message })
      end
      assert.same({ { a = 1 }, { a = 1, A = 1e308 } }, json.decode('[{"a":1},{"a":1,"A":1e308}]', { strict = true }))
    end)

    it("keeps keys apart that differ in case", function()
      assert.same({ a = 1, A = 2 }, json.decode('{"a":1,"A":2}'))
    end)

    it("passes over a leading byte order mark only", function()
      assert_decodes(1, "\xEF\xBB\xBF1")
      assert_fault("\xEF\xBB\xBF", 3, "no value")
      assert_fault("1\xEF\xBB\xBF", 1, "more text")
    end)

    it("raises on misuse", function()
      assert.error_matches(function() json.decode() end, "string expected")
      assert.error_matches(function() json.decode("1", { dept = 1 }) end, "unknown option `dept`")
      assert.error_matches(function() json.decode("1", { depth = 1001 }) end, "`depth`")
      assert.error_matches(function() json.decode("1", { depth = "3" }) end, "`depth`")
      assert.error_matches(function() json.decode("1", { strict = 1 }) end, "`strict`")
    end)

    describe("numbers", function()
      it("reads integers exactly, whatever stands around them", function()
        local integers = {
          0, 7, -7, 999999999999999, -99999999999999, 1000000000000000, 9007199254740993, -9007199254740993,
          math.maxinteger, math.mininteger, math.maxinteger - 1, 123456789012345678,
        }
        for _, integer in ipairs(integers) do
          for padding = 0, 17 do
            local text = (' '):rep(padding) .. integer
            assert_decodes(integer, text)
            assert.equal(integer, json.decode('{"a":["b",' .. text .. ']}').a[2])
          end
        end
      end)

      it("leaves long runs of digits in strings alone", function()
        assert_decodes("12345678901234567890", '"12345678901234567890"')
        assert.same({ "a, 12345678901234567890, b", 12345678901234567 },
          json.decode('["a, 12345678901234567890, b",12345678901234567]'))
        assert.same({ ["1.5"] = 1.5 }, json.decode('{"1.5":1.5}'))
      end)

      it("reads integers beyond 64 bits as floats", function()
        assert_decodes(2.0 ^ 63, "9223372036854775808")
        assert_decodes(-2.0 ^ 64, "-18446744073709551616")
        assert_decodes(1e99, "1" .. ("0"):rep(99))
        assert_decodes(math.huge, ("9"):rep(400))
      end)

      it("reads what has a fraction or an exponent as a float", function()
        assert_decodes(1.0, "1.0")
        assert_decodes(1000.0, "1e3")
        assert_decodes(0.1, "0.1")
        assert_decodes(1.0, "1.00000000000000000000000000000000000000000000000000000000000000000000000000000")
        assert_decodes(5e-324, "5E-324")
        assert_decodes(-1.5e+300, "-1.5e+300")
        assert_decodes(math.huge, "1e999")
        assert_decodes(0, "-0")
        assert.equal("-0.0", tostring(json.decode("-0.0")))
      end)

      it("refuses what only looks like a number", function()
        assert_fault("01", 0, "leading zero")
        assert_fault("[-012]", 2, "leading zero")
        assert_fault("+1", 0, "expected a value")
        assert_fault(".5", 0, "expected a value")
        assert_fault("-.5", 1, "digit")
        assert_fault("1.", 2, "digit")
        assert_fault("1.e5", 2, "digit")
        assert_fault("[1e]", 3, "digit")
        assert_fault("1e+", 3, "digit")
        assert_fault("-", 1, "digit")
        assert_fault("-Infinity", 1, "digit")
        assert_fault("NaN", 0, "expected a value")
        assert_fault("Infinity", 0, "expected a value")
        assert_fault("0x10", 1, "more text")
        assert_fault("1-2", 1, "more text")
        assert_fault("1_000", 1, "more text")
      end)
    end)

    describe("strings", function()
      it("reads every escape", function()
        assert_decodes('"\\/\b\f\n\r\t', [["\"\\\/\b\f\n\r\t"]])
        assert_decodes("A\u{e9}\u{20ac}", [["\u0041\u00e9\u20AC"]])
      end)

      it("reads a surrogate pair as one character", function()
        assert_decodes("\u{1F600}\u{10FFFF}", [["\ud83d\uDE00\uDBFF\uDFFF"]])
      end)

      it("keeps \\u0000, in keys too, and does not mistake its neighbours", function()
        assert_decodes("\0", [["\u0000"]])
        assert_decodes("a\0b\0\0", [["a\u0000b\u0000\u0000"]])
        assert_decodes("\\u0000", [["\\u0000"]])
        assert.same({ ["a\0b"] = "c", a = "\1" }, json.decode([[{"a\u0000b":"c","a":"\u0001"}]]))
      end)

      it("replaces a lone surrogate by U+FFFD", function()
        assert_decodes("a\u{FFFD}b", [["a\ud83db"]])
        assert_decodes("\u{FFFD}", [["\uDE00"]])
        assert_decodes("\u{FFFD}\u{FFFD}", [["\ud83d\ud83d"]])
        assert_decodes("\u{FFFD}\u{1F600}", [["\ud83d\ud83d\ude00"]])
        assert_decodes("\u{FFFD}\u{E000}", [["\ud83d\uE000"]])
        assert_decodes("\u{FFFD}\u{FFFD}", [["\ud83d\uDBFF"]])
        assert_decodes("\u{FFFD}\n", [["\ud83d\n"]])
        assert_fault([["a\ud83db"]], 2, "surrogate", { strict = true })
      end)

      it("replaces each invalid byte by U+FFFD", function()
        local invalid = {
          "\x80", "\xC0\xAF", "\xC1\xBF", "\xED\xA0\x80", "\xE2\x82", "\xF0\x9F\x98", "\xF4\x90\x80\x80", "\xF5\x80",
          "\xE0\x80\x80", "\xF0\x80\x80\x80", "\xFE", "\xFF",
        }
        for _, bytes in ipairs(invalid) do
          local text = '"a' .. bytes .. 'b"'
          assert_decodes("a" .. ("\u{FFFD}"):rep(#bytes) .. "b", text)
          assert_decodes(("\u{FFFD}"):rep(#bytes), '"' .. bytes .. '"')
          assert_fault(text, 2, "UTF-8", { strict = true })
        end
        assert_fault("\xFF", 0, "expected a value")
      end)

      it("never takes a user's bytes for its own marks", function()
        assert.same({ "\u{FFFD}1.5", 2.5, "\u{FFFD}\0" }, json.decode('["\xFE1.5",2.5,"\xFF\\u0000"]'))
      end)

      it("keeps valid UTF-8 of every length as it is", function()
        local text = "\u{7F}\u{80}\u{7FF}\u{800}\u{2028}\u{D7FF}\u{E000}\u{FFFF}\u{10000}\u{10FFFF}"
        assert_decodes(text, '"' .. text .. '"', { strict = true })
      end)

      it("finds what is special at every place of a machine word", function()
        for before = 0, 20 do
          local plain = ("x"):rep(before)
          assert_decodes(plain .. '"' .. plain, '"' .. plain .. '\\"' .. plain .. '"')
          assert_decodes(plain .. "\u{20ac}" .. plain, '"' .. plain .. "\u{20ac}" .. plain .. '"')
          assert_fault('"' .. plain .. '\n"', before + 1, "control character")
          assert_fault('"' .. plain .. '\31!"', before + 1, "control character")
        end
      end)

      it("refuses what is no string", function()
        assert_fault('"abc', 4, "without its end")
        assert_fault('"abc\\', 4, "unknown escape")
        assert_fault([["\x41"]], 1, "unknown escape")
        assert_fault([["ab\u12g4"]], 3, "hexadecimal")
        assert_fault('"\\u12', 1, "hexadecimal")
        assert_fault('"a\0b"', 2, "NUL")
        assert_fault("'a'", 0, "expected a value")
      end)
    end)

    describe("structure", function()
      it("reports what is wrong and where", function()
        assert_fault("", 0, "no value")
        assert_fault(" \n", 2, "no value")
        assert_fault("[1,2", 4, "too early")
        assert_fault('{"a"', 4, "too early")
        assert_fault("[1,]", 3, "expected a value")
        assert_fault("[,1]", 1, "expected a value")
        assert_fault("[1 2]", 3, "`]`")
        assert_fault("[1}", 2, "`]`")
        assert_fault('{"a":1]', 6, "`}`")
        assert_fault('{"a":1,}', 7, "string as key")
        assert_fault("{a:1}", 1, "string as key")
        assert_fault("{1:1}", 1, "string as key")
        assert_fault('{"a" 1}', 5, "`:`")
        assert_fault('{"a":}', 5, "expected a value")
        assert_fault("]", 0, "expected a value")
        assert_fault("tru", 0, "expected a value")
        assert_fault("truex", 4, "more text")
        assert_fault("{} {}", 3, "more text")
        assert_fault("1 // one", 2, "more text")
        assert_fault("\1[]", 0, "expected a value")
        assert_fault("[]\1", 2, "more text")
        assert_fault("[1]\0", 3, "NUL")
        assert_fault("\0", 0, "NUL")
      end)

      it("reports offsets of the text as it was given, also when it had to be rewritten", function()
        assert_fault('["\\u0000",1.5,"\xFF",12345678901234567890,x]', 39, "expected a value")
      end)

      it("bounds the depth", function()
        assert.is_table(json.decode(nested(512)))
        assert_fault(nested(513), 512, "too deep")
        assert.is_table(json.decode(nested(1000), { depth = 1000 }))
        assert_fault(nested(1001), 1000, "too deep", { depth = 1000 })
        assert_fault(('{"a":'):rep(3) .. "1}}}", 10, "too deep", { depth = 2 })
        assert_fault(("["):rep(1000000), 512, "too deep")
        assert.is_table(json.decode("[[],[],[[]]]", { depth = 3 }))
      end)
    end)
  end)

  describe("encode", function()
    it("writes every kind of value", function()
      assert.equal('[true,false,null,1,"x",{"a":[]}]',
        json.encode { true, false, json.null, 1, "x", { a = json.array() } })
    end)

    it("tells arrays from objects", function()
      assert.equal("{}", json.encode {})
      assert.equal("[]", json.encode(json.array()))
      assert.equal("[]", json.encode({}, { empty_table = "array" }))
      assert.equal("{}", json.encode({}, { empty_table = "object" }))
      assert.equal("[[1],{}]", json.encode { { 1 }, {} })
      assert.equal("[1]", json.encode(json.array { 1 }))
    end)

    it("writes numbers that read back as they were", function()
      local cases = {
        [0] = "0", [-7] = "-7", [math.maxinteger] = "9223372036854775807", [math.mininteger] = "-9223372036854775808",
        [0.1] = "0.1", [1e300] = "1e+300", [-1.5] = "-1.5", [1 / 3] = "0.3333333333333333",
        [5e-324] = "4.94065645841247e-324", [2.0 ^ 63] = "9.223372036854776e+18",
      }
      for number, text in pairs(cases) do
        assert.equal(text, json.encode(number))
        assert_decodes(number, text)
      end
      assert.equal("1.0", json.encode(1.0))
      assert.equal("-0.0", json.encode(-0.0))
      assert.equal("100000.0", json.encode(1e5))
    end)

    it("escapes what must be escaped and nothing else", function()
      assert.equal([["\"\\/\b\f\n\r\t\u0000\u001f]] .. "\127\u{2028}\u{1F600}\"",
        json.encode("\"\\/\b\f\n\r\t\0\31\127\u{2028}\u{1F600}"))
    end)

    it("sorts keys by their bytes", function()
      local value = { b = 1, a = 2, ["a\0"] = 3, ["\u{e9}"] = 4, Z = 5, [""] = 6, ab = { d = 1, c = 2 } }
      assert.equal([[{"":6,"Z":5,"a":2,"a\u0000":3,"ab":{"c":2,"d":1},"b":1,"]] .. "\u{e9}\":4}",
        json.encode(value, { sort_keys = true }))
    end)

    it("indents", function()
      local value = { a = { 1, { b = json.null } }, c = json.array(), d = {} }
      assert.equal([[
{
  "a": [
    1,
    {
      "b": null
    }
  ],
  "c": [],
  "d": {}
}]], json.encode(value, { indent = 2, sort_keys = true }))
    end)

    it("names the path of what it refuses", function()
      assert_refused(print, "the value", "function")
      assert_refused(nil, "the value", "nil")
      assert_refused({ messages = { { content = "x" }, { content = print } } }, "messages[2].content", "function")
      assert_refused({ a = { ["b c"] = { coroutine.create(print) } } }, 'a["b c"][1]', "thread")
      assert_refused({ a = io.stdout }, "a", "userdata")
      assert_refused({ 1, 0 / 0 }, "[2]", "finite")
      assert_refused({ a = { b = -math.huge } }, "a.b", "finite")
      assert_refused({ a = { "b\xFF" } }, "a[1]", "UTF-8")
      assert_refused({ a = { ["b\xC0\x80"] = 1 } }, 'a["b\xC0\x80"]', "UTF-8")
      assert_refused({ a = "\xED\xA0\x80" }, "a", "UTF-8", { sort_keys = true })
    end)

    it("refuses tables that are neither array nor object", function()
      for _, sort_keys in ipairs { false, true } do
        local options = { sort_keys = sort_keys }
        assert_refused({ a = { 1, b = 2 } }, "a", "both", options)
        assert_refused({ a = { b = 2, [1.5] = 1 } }, "a", "", options)
        assert_refused({ a = { [true] = 1 } }, "a", "not strings", options)
        assert_refused({ a = { x = 1, [true] = 1 } }, "a", "not strings", options)
        assert_refused({ a = { 1, nil, 3 } }, "a", "sparse", options)
        assert_refused({ a = { [2] = 1 } }, "a", "sparse", options)
        assert_refused({ a = { [0] = 1, [1] = 2 } }, "a", "sparse", options)
        assert_refused({ a = { 1, nil, 3, [7] = 1 } }, "a", "sparse", options)
        assert_refused({ a = json.array { 1, n = 1 } }, "a", "both", options)
      end
    end)

    it("refuses cycles and too much depth", function()
      local loop = { list = {} }
      loop.list[1] = { loop }
      assert_refused(loop, "the value", "contains itself", { depth = 9 })
      assert_refused(loop, "list", "contains itself", { depth = 10 })
      assert_refused(loop, "list[1]", "contains itself")
      assert_refused({ { { 1 } } }, "[1][1]", "too deep", { depth = 2 })
      assert.equal("[[1]]", json.encode({ { 1 } }, { depth = 2 }))
      assert.equal(nested(1000), json.encode(json.decode(nested(1000), { depth = 1000 }), { depth = 1000 }))
      local shared = { 1 }
      assert.equal("[[1],[1]]", json.encode { shared, shared })
    end)

    it("raises on misuse", function()
      assert.error_matches(function() json.encode() end, "value expected")
      assert.error_matches(function() json.encode(1, { sort = true }) end, "unknown option `sort`")
      assert.error_matches(function() json.encode(1, { sort_keys = 1 }) end, "`sort_keys`")
      assert.error_matches(function() json.encode(1, { indent = 0 }) end, "`indent`")
      assert.error_matches(function() json.encode(1, { empty_table = "list" }) end, "`empty_table`")
      assert.error_matches(function() json.array(1) end, "table expected")
    end)

    it("runs no metamethod", function()
      local trap = function() error("called") end
      assert.equal('{"a":1}', json.encode(setmetatable({ a = 1 }, { __index = trap, __len = trap, __pairs = trap })))
    end)

    it("works inside a coroutine", function()
      local text = coroutine.wrap(function() return json.encode { ("x"):rep(5000), { a = ("y"):rep(5000) } } end)()
      assert.equal(#'["",{"a":""}]' + 10000, #text)
    end)
  end)

  describe("both ways", function()
    local seed = tonumber(os.getenv("PARLEY_SPEC_SEED")) or os.time()

    local function random_string()
      local parts = {}
      for i = 1, math.random(0, 12) do
        local top = ({ 0x1F, 0x7F, 0x7F, 0x7FF, 0xD7FF, 0x10FFFF })[math.random(6)]
        local point = math.random(0, top)
        parts[i] = utf8.char(point >= 0xD800 and point <= 0xDFFF and 0xFFFD or point)
      end
      return table.concat(parts)
    end

    local function random_number()
      local kind = math.random(4)
      if kind == 1 then
        return math.random(-100, 100)
      elseif kind == 2 then
        return math.random(0)
      end
      local float = string.unpack("d", string.pack("j", math.random(0)))
      return float - float == 0 and (kind == 3 and float or math.floor(float % 1e6) + 0.0) or 0.5
    end

    local function random_value(depth)
      local kind = math.random(depth > 0 and 7 or 5)
      if kind == 1 then
        return json.null
      elseif kind == 2 then
        return math.random(2) == 1
      elseif kind == 3 then
        return random_string()
      elseif kind <= 5 then
        return random_number()
      end
      local value = kind == 6 and json.array() or {}
      for i = 1, math.random(0, 6) do
        value[kind == 6 and i or random_string()] = random_value(depth - 1)
      end
      return value
    end

    local function is_same(a, b)
      if type(a) ~= "table" then
        return a == b and math.type(a) == math.type(b)
      end
      if type(b) ~= "table" or json.is_array(a) ~= json.is_array(b) then
        return false
      end
      for key, value in pairs(a) do
        if not is_same(value, b[key]) then
          return false
        end
      end
      for key in pairs(b) do
        if a[key] == nil then
          return false
        end
      end
      return true
    end

    it("gives back every value (seed " .. seed .. ")", function()
      math.randomseed(seed)
      for _ = 1, 3000 do
        local value = random_value(5)
        local options = { sort_keys = math.random(2) == 1, indent = math.random(2) == 1 and 3 or nil }
        local text = assert(json.encode(value, options))
        local again, err = json.decode(text, { strict = true })
        assert.is_nil(err)
        assert.is_true(is_same(value, again), text)
      end
    end)

    it("survives any damage to a text (seed " .. seed .. ")", function()
      math.randomseed(seed)
      for _ = 1, 3000 do
        local text = json.encode(random_value(4))
        local at = math.random(0, #text)
        local damaged = text:sub(1, at) .. string.char(math.random(0, 255)) .. text:sub(at + math.random(0, 3))
        local value, err = json.decode(damaged)
        if value == nil then
          assert.equal("EJSON", err.code)
          assert.is_true(err.offset >= 0 and err.offset <= #damaged)
        else
          local _, refusal = json.encode(value)
          assert.is_true(not refusal or refusal.message:find("finite", 1, true) ~= nil, damaged)
        end
      end
    end)

    it("carries a string of many MB", function()
      local long = ("0123456789abcde\n"):rep(helper.long(8, 64) * 65536)
      local text = json.encode { a = long }
      assert.equal(#long + #long // 16 + 8, #text)
      assert.is_true(json.decode(text).a == long)
    end)

    it("carries arrays of 100,000 elements", function()
      local list = json.array()
      for i = 1, 100000 do
        list[i] = i % 3 == 0 and { n = i } or i % 3 == 1 and i * 1000003 or i / 7
      end
      local again = json.decode(json.encode(list))
      assert.equal(100000, #again)
      assert.is_true(is_same(list, again))
    end)

    it("leaves no memory behind, neither Lua's nor C's", function()
      local text = json.encode { a = { ("b"):rep(100000), 1.5, "\0", { c = {} } } }
      local function run()
        for _ = 1, 200 do
          assert(json.decode(text))
          json.decode(text:sub(1, -2))
          json.encode { text, print }
        end
        collectgarbage()
        collectgarbage()
        return uv.resident_set_memory()
      end
      -- The heap may grow once for its own reasons; a leak makes it grow every time, by 20 MB at least.
      local least, before = math.huge, run()
      for _ = 1, 4 do
        local after = run()
        least, before = math.min(least, after - before), after
      end
      assert.is_true(least < 4 * 1024 * 1024)
    end)
  end)
end)
