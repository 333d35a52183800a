local helper = require "spec.helper"
local parley = require "parley"
local testing = require "parley.testing"

describe("what the stand-in tells of text that it shows", function()
  local check_leaks
  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  --- Whether all has come that will: calls come behind the record, too, and in any order.
  local function are_whole(pieces, answer, profile)
    if answer.breaks_off and profile == "2.1.197" then return pieces[1] end
    local count, ends = {}, {}
    for _, piece in ipairs(pieces) do
      local id = piece.message_id
      count[id] = (count[id] or 0) + 1
      if piece.final then table.insert(ends, function() return count[id] == piece.index + 1 end) end
    end
    if #ends < (answer.breaks_off and 2 or 1) then return false end
    for _, is_whole in ipairs(ends) do
      if not is_whole() then return false end
    end
    return true
  end

  --- A spec with the pieces of a turn, and what was said in it.
  local function spec(name, profile, answer, body)
    it(("%s (%s)"):format(name, profile), helper.task(function()
      local kit <close> = testing.kit { profile = profile, script = { answers = { answer } } }
      local pieces = {}
      kit.options.hooks = { MessageDisplay = function(payload)
        table.insert(pieces, payload)
      end }
      local backend <close> = parley.backend(kit.options)
      local said = { texts = {} }
      for event in backend:complete { { role = "user", content = "hello" } } do
        if event.type == "assistant" then table.insert(said.texts, event:text()) end
      end
      helper.eventually(function() return are_whole(pieces, answer, profile) end)
      body(pieces, said)
    end))
  end

  local function deltas(pieces)
    table.sort(pieces, function(one, other) return one.index < other.index end)
    local list = {}
    for i, piece in ipairs(pieces) do list[i] = piece.delta .. (piece.final and "." or "") end
    return list
  end

  for _, profile in ipairs { "2.1.330", "2.1.197" } do
    spec("comes at once for the first line, then at most every 100 ms", profile,
      { text = ("line\n"):rep(12) .. "end", line_ms = 30 }, function(pieces, said)
        local told = deltas(pieces)
        assert.equal("line\n", told[1])
        assert.equal(said.texts[1] .. ".", table.concat(told))
        assert.is_true(#told >= 4 and #told <= 6, #told)
        for i = 2, #pieces - 1 do assert.matches("^line\nline\n", told[i]) end
      end)

    spec("is the rest at the end, where all has come at once", profile, { text = "one\ntwo\nthree" },
      function(pieces) assert.same({ "one\ntwo\n", "three." }, deltas(pieces)) end)

    spec("ends with an empty piece behind a line end", profile, { text = "one\n" },
      function(pieces) assert.same({ "one\n", "." }, deltas(pieces)) end)
  end

  local BROKEN = { breaks_off = "one\ntwo\nthr", text = "one\ntwo\nthree", line_ms = 5 }
  spec("is told of once more when an answer broke off, whose end is told of", "2.1.330", BROKEN,
    function(pieces, said)
      local of = {}
      for _, piece in ipairs(pieces) do
        of[piece.message_id] = of[piece.message_id] or {}
        table.insert(of[piece.message_id], piece)
      end
      local first = deltas(of[pieces[1].message_id])
      assert.same({ "one\n", "two\n." }, first)
      assert.equal("one\ntwo\nthree.", table.concat(deltas(of[pieces[#pieces].message_id])))
      assert.same({ "one\ntwo\nthree" }, said.texts)
    end)

  spec("is not told of once more by a version that asks for the whole answer then", "2.1.197", BROKEN,
    function(pieces, said)
      assert.equal("one\n", pieces[1].delta)
      for _, piece in ipairs(pieces) do assert.is_false(piece.final) end
      assert.same({ "one\ntwo\nthree" }, said.texts)
    end)
end)

describe("a turn of the stand-in that is interrupted while its text comes", function()
  for _, profile in ipairs { "2.1.330", "2.1.197" } do
    it("records what has come, and tells of the last lines a moment later, with no end, " .. profile,
      helper.task(function()
        local kit <close> = testing.kit { profile = profile, script = { answers = {
          { text = ("line\n"):rep(1000), line_ms = 40 } } } }
        local pieces, news = {}, parley.task.condition()
        kit.options.hooks = { MessageDisplay = function(payload)
          table.insert(pieces, payload)
          news:notify()
        end }
        local backend <close> = parley.backend(kit.options)
        local turn = backend:complete { { role = "user", content = "hello" } }
        local waiter = parley.task.spawn(function()
          news:wait_until(function() return #pieces == 2 end)
          turn:interrupt()
        end)
        local text
        for event in turn do text = event.type == "assistant" and event:text() or text end
        waiter:await()
        local function told()
          local parts = {}
          for _, piece in ipairs(pieces) do parts[piece.index + 1] = piece.delta end
          return table.concat(parts)
        end
        helper.eventually(function() return told() == text end)
        assert.matches("^line\n", text)
        assert.is_false(pieces[#pieces].final)
        assert.equal("interrupted", turn:result().subtype)
      end))
  end
end)
