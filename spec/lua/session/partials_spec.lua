local claude_event = require "parley.claude.event"
local helper = require "spec.helper"
local marks = require "parley.testing.marks"
local parley = require "parley"
local partials = require "parley.session.partials"
local testing = require "parley.testing"

local function piece(id, index, delta) return { message_id = id, index = index, delta = delta } end

local function said(id, ...)
  local content = {}
  for i, text in ipairs { ... } do content[i] = { type = "text", text = text } end
  return claude_event.new { type = "assistant", message_id = id, content = content }
end

--- The queue in short: what was partial and whether it was final, and what each message says.
local function told(events)
  local list = {}
  for i, event in ipairs(events) do
    list[i] = event.type == "partial" and (event.final and "final " or "part ") .. event.text or event:text()
  end
  return list
end

describe("partial texts", function()
  local part, events
  before_each(function() part, events = partials.new "id", {} end)

  it("come as they are told, and their message says that it is all", function()
    part:take(piece("a", 0, "one\n"))
    part:settle(events, true)
    part:take(piece("a", 1, "two"))
    table.insert(events, said("m", "one\ntwo"))
    part:settle(events, true)
    assert.same({ "part one\n", "part two", "final ", "one\ntwo" }, told(events))
    assert.same({ 0, 1, 2, "a" }, { events[1].index, events[2].index, events[3].index, events[3].message })
  end)

  it("wait for the user's message", function()
    part:take(piece("a", 0, "one"))
    part:settle(events, false)
    assert.same({}, events)
    part:settle(events, true)
    assert.same({ "part one" }, told(events))
  end)

  it("stand before their own message, where several have come", function()
    part:take(piece("a", 0, "one"))
    part:take(piece("b", 0, "two"))
    events = { said("m", "one"), said("n", "silent"), said("o", "two") }
    part:settle(events, true)
    assert.same({ "part one", "final ", "one", "silent", "part two", "final ", "two" }, told(events))
  end)

  it("are put in order", function()
    part:take(piece("a", 1, "two"))
    part:settle(events, true)
    assert.same({}, events)
    part:take(piece("a", 0, "one\n"))
    part:settle(events, true)
    assert.same({ "part one\n", "part two" }, told(events))
  end)

  it("are of all blocks of a message", function()
    part:take(piece("a", 0, "onetwo"))
    events = { said("m", "one"), said("m", "two") }
    part:settle(events, true)
    assert.same({ "part onetwo", "final ", "one", "two" }, told(events))
  end)

  it("are dropped where they come behind their message", function()
    part:take(piece("a", 0, "one\n"))
    events = { said("m", "one\ntwo"), said("n", "other") }
    part:settle(events, true)
    part:take(piece("a", 1, "two"))
    part:take(piece("b", 0, "oth"))
    part:settle(events, true)
    assert.same({ "part one\n", "one\ntwo", "other" }, told(events))
  end)

  it("of an attempt behind one that broke off are dropped where they come behind the message", function()
    part:take(piece("a", 0, "one\n"))
    part:take(piece("b", 0, "one\n"))
    part:settle(events, true)
    table.insert(events, said("m", "one\ntwo"))
    part:settle(events, true)
    part:take(piece("b", 1, "two"))
    part:settle(events, true)
    assert.same({ "part one\n", "part one\n", "one\ntwo" }, told(events))
  end)

  it("of an attempt behind one that broke off are those that are all of the message", function()
    part:take(piece("a", 0, "one\n"))
    part:take(piece("b", 0, "one\n"))
    part:take(piece("b", 1, "two"))
    table.insert(events, said("m", "one\ntwo"))
    part:settle(events, true)
    assert.same({ "part one\n", "part two", "final ", "one\ntwo" }, told(events))
  end)

  it("are not said to be all of what differs", function()
    part:take(piece("a", 0, "one"))
    part:settle(events, true)
    table.insert(events, said("m", "another"))
    part:settle(events, true)
    assert.same({ "part one", "another" }, told(events))
  end)

  it("of a message that was cut off are not taken for the next one's", function()
    part:take(piece("a", 0, "cut\n"))
    part:take(piece("b", 0, "one"))
    table.insert(events, said("m", "one"))
    part:settle(events, true)
    assert.same({ "part one", "final ", "one" }, told(events))
  end)
end)

describe("the invariants of partial texts", function()
  local function of(...)
    local events = { claude_event.new { type = "user", content = {} } }
    for index, text in ipairs { ... } do
      table.insert(events, claude_event.new { type = "partial", message = "a", index = index - 1, text = text,
        final = text == "" })
    end
    return events
  end

  it("name what is wrong", function()
    local good = of("one", "")
    table.insert(good, said("m", "one"))
    assert.is_nil(marks.wrong_partials(good, true))
    local other = of("one", "")
    table.insert(other, said("m", "two"))
    assert.matches("not its message's", marks.wrong_partials(other, true))
    assert.matches("behind the last", marks.wrong_partials(of("one", "", "more"), true))
    table.remove(good, 1)
    assert.matches("before the message", marks.wrong_partials(good, true))
    local hole = of("one", "two")
    table.remove(hole, 2)
    assert.matches("out of its place", marks.wrong_partials(hole, true))
  end)
end)

describe("partial texts of a session", function()
  local check_leaks
  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  local TEXT = "# head\n\n- one\n- two 😀\n\n```lua\n\tx = 1  \n```\n"

  local function spec(name, kit_options, body, make)
    it(name, helper.task(function()
      local kit <close> = (make or testing.world)(kit_options)
      kit.options.partial = true
      local backend <close> = parley.backend(kit.options)
      body(backend, kit)
    end))
  end

  local function say(backend, text)
    local events = {}
    for event in backend:complete { { role = "user", content = text } } do table.insert(events, event) end
    return events
  end

  local function count(events, subtype)
    local found = 0
    for _, event in ipairs(events) do found = found + (event.subtype == subtype and 1 or 0) end
    return found
  end

  for where, make in pairs { [""] = testing.world, [", on a real terminal"] = testing.kit } do
    for _, profile in ipairs { "2.1.330", "2.1.197" } do
      local given = { profile = profile, script = { flush_ms = 1000, answers = { { text = TEXT, line_ms = 40 } } } }
      spec("stand between the message and its answer (" .. profile .. where .. ")", given, function(backend)
        local events, parts, place = say(backend, "hello"), {}, {}
        for i, event in ipairs(events) do
          if event.type == "partial" then table.insert(parts, event.text) end
          place[event.type] = place[event.type] or i
          if event.final then place.final = i end
        end
        assert.equal(TEXT, table.concat(parts))
        assert.is_nil(marks.wrong_partials(events, true))
        assert.is_true(place.user < place.partial and place.final < place.assistant)
        assert.equal("# head\n", parts[1]) -- at once; then those of 100 ms together
        assert.is_true(#parts < 8, #parts)
        assert.equal(0, count(events, "hooks_unavailable"))
      end, make)
    end
  end

  for name, options in pairs { ["an old version"] = { profile = "2.1.110" },
    ["settings that forbid it"] = { settings = { disableAllHooks = true } } } do
    spec("are not there with " .. name .. ", which is said once", options, function(backend)
      local talk = backend:conversation()
      local events = talk:ask("hello").events
      assert.equal(1, count(events, "hooks_unavailable"))
      assert.equal(0, count(talk:ask("again").events, "hooks_unavailable"))
      for _, event in ipairs(events) do assert.is_not.equal("partial", event.type) end
      assert.equal("success", events[#events].subtype)
    end)
  end

  local function parts(answer)
    local found = 0
    for _, event in ipairs(answer.events) do found = found + (event.type == "partial" and 1 or 0) end
    return found
  end

  local SLOW = { script = { answers = { { text = TEXT, line_ms = 20 } } } }

  spec("are left out of a turn that does not want them, in the same process", SLOW, function(backend, kit)
    local talk = backend:conversation()
    assert.is_true(parts(talk:ask "one") > 0)
    assert.equal(0, parts(talk:ask("two", { options = { partial = false } })))
    assert.is_true(parts(talk:ask "three") > 0)
    local other = backend:conversation()
    assert.equal(0, parts(other:ask("four", { options = { partial = false } })))
    assert.is_true(parts(other:ask "five") > 0)
    assert.equal(2, #kit:events "started")
  end)

  spec("come in a conversation that had none before, which keeps its session", SLOW, function(_, kit)
    kit.options.partial = nil
    local backend <close> = parley.backend(kit.options)
    local talk = backend:conversation()
    local first, second = talk:ask "one", talk:ask("two", { options = { partial = true } })
    assert.same({ 0, true }, { parts(first), parts(second) > 0 })
    assert.equal(first.result.session_id, second.result.session_id)
    assert.equal(0, parts(talk:ask "three"))
    assert.same({ "one", "two", "three" }, kit:taken())
  end)

  for _, profile in ipairs { "2.1.330", "2.1.197" } do
    spec("of an attempt that broke off are no part of what follows (" .. profile .. ")", { profile = profile,
      script = { answers = { { text = TEXT, breaks_off = "# head\n\n- one\n- tw", line_ms = 40 } } } },
      function(backend)
        local events = say(backend, "hello")
        assert.is_nil(marks.wrong_partials(events, true))
        local ids, text = {}, ""
        for _, event in ipairs(events) do
          if event.type == "partial" then ids[event.message] = true end
          if event.type == "assistant" then text = text .. event:text() end
        end
        assert.equal(TEXT, text)
        local first = next(ids)
        assert.equal(profile == "2.1.330", next(ids, first) ~= nil)
      end)
  end
end)
