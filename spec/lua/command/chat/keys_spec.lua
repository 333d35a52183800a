local keys = require "parley.command.chat.keys"

describe("keys", function()
  --- What some bytes mean, given in pieces: texts as they are, pastes in brackets, other keys in angles.
  local function decode(...)
    local found = {}
    local decoder = keys.new(function(key)
      if key.name == "text" then table.insert(found, key.text)
      elseif key.name == "paste" then table.insert(found, "[" .. key.text .. "]")
      else table.insert(found, "<" .. key.name .. ">") end
    end)
    for _, bytes in ipairs { ... } do decoder:feed(bytes) end
    return table.concat(found), decoder
  end

  it("takes text and control characters", function()
    assert.equal("ab<submit>c<newline><erase><interrupt><end_of_input>", (decode "ab\rc\n\127\3\4"))
  end)

  it("drops control characters that mean nothing", function()
    assert.equal("ab", (decode "a\0\7\28\30b"))
  end)

  it("knows the cursor keys in each spelling", function()
    assert.equal("<up><up><left><word_left><home><end><delete><newline><newline>",
      (decode "\27[A\27OA\27[D\27[1;5D\27[1~\27[F\27[3~\27\r\27[13;2u"))
  end)

  it("makes text of no part of an unknown sequence", function()
    assert.equal("abcde", (decode "a\27[17;2~b\27[?62;22cc\27[<0;10;20Md\27Oze"))
  end)

  it("puts together what comes cut anywhere", function()
    local bytes = "é漢\u{1f600}\27[1;5C\27[200~x\ny\27[201~z"
    local whole = decode(bytes)
    assert.equal("é漢\u{1f600}<word_right>[x\ny]z", whole)
    local pieces = {}
    for byte in bytes:gmatch "." do table.insert(pieces, byte) end
    assert.equal(whole, (decode(table.unpack(pieces))))
    for i = 1, #bytes - 1 do assert.equal(whole, (decode(bytes:sub(1, i), bytes:sub(i + 1)))) end
  end)

  it("drops bytes that are not UTF-8, and C1 controls", function()
    assert.equal("abcde", (decode "a\xffb\xc3c\xe6\xbcd\xc2\x9be"))
  end)

  it("lets no byte that is no UTF-8 take a key with it", function()
    assert.equal("<interrupt>", (decode "\xe3\3"))
    assert.equal("hi<submit>", (decode("hi\xe3", "\r")))
    assert.equal("<up>", (decode "\xf0\x9f\27[A"))
  end)

  it("makes line feeds of a paste's line ends", function()
    assert.equal("[a\nb\nc\td]", (decode "\27[200~a\r\nb\rc\td\27[201~"))
  end)

  it("keeps a paste with what no message may hold, and counts that", function()
    local found
    local decoder = keys.new(function(key) found = key end)
    decoder:feed "\27[200~caf\xe9 au\27[1m lait\3\xc2\x85\12\xe6\x97\27[201~"
    assert.same({ name = "paste", replaced = 7,
      text = "caf\u{fffd} au\u{fffd}[1m lait\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}" }, found)
    decoder:feed "\27[200~café\27[201~"
    assert.same({ name = "paste", text = "café" }, found)
  end)

  it("ends a paste whose end was lost at a Ctrl-C that comes alone", function()
    assert.equal("[ab]<interrupt>", (decode("\27[200~ab", "\3")))
    assert.equal("[ab\u{FFFD}[2]<interrupt><interrupt>", (decode("\27[200~ab\27[2", "\3\3")))
    assert.equal("[a\u{FFFD}b]", (decode("\27[200~", "a\3b", "\27[201~")))
  end)

  it("takes in a paste in a time that grows as it does", function()
    local function seconds(size)
      local length
      local decoder = keys.new(function(key) length = #key.text end)
      local began = os.clock()
      decoder:feed "\27[200~"
      for _ = 1, size // 1000 do decoder:feed(("x"):rep(999) .. "\r") end
      decoder:feed "\27[201~"
      assert.equal(size, length)
      return os.clock() - began
    end
    assert.is_true(seconds(4000000) < 5)
  end)

  it("takes a lone ESC for none when nothing follows", function()
    local text, decoder = decode "a\27"
    assert.equal("a", text)
    assert.is_true(decoder:is_in_doubt())
    decoder:settle()
    assert.is_false(decoder:is_in_doubt())
  end)

  it("is in no doubt in the middle of a paste, of its mark, or of a character", function()
    for _, bytes in ipairs { "\27[200~half", "\27[200~half\27", "\27[2", "\27[200", "\xe6", "\xe6\x97" } do
      local _, decoder = decode(bytes)
      assert.is_false(decoder:is_in_doubt(), bytes)
    end
    for _, bytes in ipairs { "\27[", "\27[1;", "\27[201" } do
      local _, decoder = decode(bytes)
      assert.is_true(decoder:is_in_doubt(), bytes)
    end
  end)
end)
