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

  it("makes line feeds of a paste's line ends and drops its control characters", function()
    assert.equal("[a\nb\nc\td]", (decode "\27[200~a\r\nb\rc\td\3\27[A\27[201~"):gsub("%[A", ""))
  end)

  it("takes a lone ESC for none when nothing follows", function()
    local text, decoder = decode "a\27"
    assert.equal("a", text)
    assert.is_true(decoder:is_in_doubt())
    decoder:settle()
    assert.is_false(decoder:is_in_doubt())
  end)

  it("is in no doubt in the middle of a paste", function()
    local _, decoder = decode "\27[200~half"
    assert.is_false(decoder:is_in_doubt())
  end)
end)
