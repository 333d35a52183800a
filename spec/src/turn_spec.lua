local turn = require("parley.core").turn

local STATES = { "idle", "typing", "submitted", "running", "waiting", "ended" }

-- How to get there.
local PATHS = {
  idle = {},
  typing = { "begin" },
  submitted = { "begin", "submit" },
  running = { "begin", "submit", "accept" },
  waiting = { "begin", "submit", "accept", "dialog" },
  ended = { "begin", "submit", "accept", "duration", "end" },
}

-- What follows where an event is legal; what is not here is illegal.
local TRANSITIONS = {
  begin = { idle = "typing", ended = "typing" },
  submit = { typing = "submitted", submitted = "submitted" },
  accept = { submitted = "running" },
  assistant = { running = "running", waiting = "running" },
  tool_result = { running = "running", waiting = "running" },
  meta = { running = "running", waiting = "running" },
  interrupted = { running = "running", waiting = "running" },
  duration = { running = "running", waiting = "running" },
  stop = { submitted = "submitted", running = "running", waiting = "waiting" },
  finished = { running = "running", waiting = "waiting" },
  agent = { running = "running", waiting = "waiting" },
  report = { running = "running", waiting = "waiting" },
  busy = { typing = "typing", submitted = "submitted", running = "running", waiting = "running" },
  quiet = { typing = "typing", submitted = "submitted", running = "running", waiting = "running" },
  dialog = { running = "waiting", waiting = "waiting" },
  interrupt = { typing = "typing", submitted = "submitted", running = "running", waiting = "waiting" },
  ["end"] = { typing = "ended", submitted = "ended", running = "ended", waiting = "ended" },
}

---A turn to which these events have happened: names, or tables of a name and its detail.
local function after(...)
  local machine = turn.new()
  for _, event in ipairs { ... } do
    if type(event) == "string" then machine:apply(event) else machine:apply(event[1], event.detail) end
  end
  return machine
end

---The same for a message that was accepted.
local function accepted(...)
  return after("begin", "submit", "accept", ...)
end

---A block of an answer.
local function block(detail) return { "assistant", detail = detail } end

describe("turn", function()
  it("offers what its stub says", function()
    local stub = dofile "lua/parley/core/turn.lua"
    for name in pairs(turn) do
      assert.is_function(stub[name], name)
      stub[name] = nil
    end
    assert.same({}, stub)
  end)

  it("has the methods, events and facts that its stub names", function()
    local file <close> = assert(io.open "lua/parley/core/turn.lua")
    local text = file:read "a"
    local methods, facts, events, states = {}, {}, {}, {}
    for name in text:gmatch "function methods:([%w_]+)" do methods[name] = "function" end
    for name in text:match("class parley.MachineFacts\n(.-)\n\n"):gmatch "%-%-%-@field ([%w_]+)" do
      facts[name] = true
    end
    for name in text:match("alias parley.TurnEvent (.-)%-%-%-@"):gmatch '"([%w_]+)"' do events[name] = true end
    for name in text:match("alias parley.TurnState (.-)\n"):gmatch '"([%w_]+)"' do states[name] = true end

    local actual = {}
    for name, value in pairs(getmetatable(turn.new()).__index) do actual[name] = type(value) end
    assert.same(actual, methods)
    actual = {}
    for name in pairs(accepted(block { stop_reason = "end_turn" }):facts()) do actual[name] = true end
    assert.same(actual, facts)
    for name in pairs(TRANSITIONS) do
      assert.is_true(events[name], name)
      events[name] = nil
    end
    assert.same({}, events)
    for _, name in ipairs(STATES) do states[name] = nil end
    assert.same({}, states)
  end)

  it("is idle at first", function()
    assert.equal("idle", turn.new():state())
    assert.equal("goes_on", turn.new():facts().certainty)
    assert.equal("parley.turn (idle)", tostring(turn.new()))
  end)

  describe("applies", function()
    for event, targets in pairs(TRANSITIONS) do
      for _, from in ipairs(STATES) do
        local to = targets[from]
        if to then
          it(("%s to %s, which gives %s"):format(event, from, to), function()
            local machine = after(table.unpack(PATHS[from]))
            assert.equal(from, machine:state())
            assert.equal(to, machine:apply(event))
            assert.equal(to, machine:state())
          end)
        end
      end
    end
  end)

  describe("refuses", function()
    it("every other event, naming state and event, and stays as it was", function()
      for event, targets in pairs(TRANSITIONS) do
        for _, from in ipairs(STATES) do
          if not targets[from] then
            local machine = after(table.unpack(PATHS[from]))
            local before = machine:facts()
            local ok, problem = pcall(machine.apply, machine, event, { stop_reason = "end_turn" })
            assert.is_false(ok, ("%s takes %s"):format(from, event))
            assert.matches(("a turn that is %s takes no event '%s'"):format(from, event), problem)
            assert.same(before, machine:facts())
          end
        end
      end
    end)

    it("an event that nobody knows", function()
      assert.error_matches(function() turn.new():apply "ponder" end, "knows no event 'ponder'")
      assert.error_matches(function() turn.new():apply "" end, "knows no event ''")
    end)

    it("arguments of the wrong kind", function()
      local machine = accepted()
      assert.error_matches(function() machine:apply() end, "string expected")
      assert.error_matches(function() machine:apply("assistant", "end_turn") end, "table expected")
      assert.error_matches(function() machine:apply("assistant", { stop_reason = {} }) end, "string expected")
      assert.error_matches(function() machine.apply(io.stdout, "begin") end, "parley.turn expected")
      assert.equal(0, machine:facts().assistant_blocks)
    end)
  end)

  describe("says that the turn goes on", function()
    local cases = {
      ["before there is a message"] = {},
      ["while a message is typed, however quiet it is"] = { "begin", "quiet" },
      ["before the message was accepted"] = { "begin", "submit", "busy", "quiet" },
      ["before the message was accepted, though a hook has run"] = { "begin", "submit", "quiet", "stop" },
      ["after Escape, until it is quiet"] = { "begin", "submit", "interrupt" },
      ["when only the answer came"] = { "begin", "submit", "accept", block { stop_reason = "end_turn" } },
      ["when it is busy again"] = { "begin", "submit", "accept", block(), "quiet", "busy" },
      ["when a hook has run and it is busy"] = { "begin", "submit", "accept", block(), "stop" },
      ["when a command has finished and it is busy again"] = { "begin", "submit", "accept", "finished", "busy" },
      ["when an API error came and it is busy"] = { "begin", "submit", "accept", block { api_error = true } },
      ["when an interruption was recorded and it is busy"] = { "begin", "submit", "accept", "interrupted" },
      ["while a dialog waits, whatever came before"] = { "begin", "submit", "accept", "duration", "quiet", "dialog" },
      ["when more came after the last record"] = { "begin", "submit", "accept", "duration", block() },
      ["once it has ended"] = { "begin", "submit", "accept", "duration", "end" },
    }
    for condition, events in pairs(cases) do
      it(condition, function() assert.equal("goes_on", after(table.unpack(events)):facts().certainty) end)
    end
  end)

  describe("says that it is likely over", function()
    it("when it is quiet and no record says so", function()
      assert.equal("likely", accepted("busy", block { stop_reason = "end_turn" }, "quiet"):facts().certainty)
      assert.equal("likely", accepted("quiet"):facts().certainty)
    end)

    it("when it is quiet after Escape and the message was never accepted", function()
      assert.equal("likely", after("begin", "submit", "interrupt", "quiet"):facts().certainty)
    end)

    it("when a record came after the hook had run", function()
      assert.equal("likely", accepted("quiet", "stop", block()):facts().certainty)
    end)

    it("when a command went on after it had finished", function()
      assert.equal("likely", accepted("finished", "meta", "quiet"):facts().certainty)
    end)

    it("when a sub-agent was not heard of, whatever the last record, unless the user has interrupted", function()
      for _, ending in ipairs { "duration", "stop", "finished", block { api_error = true } } do
        assert.equal("likely", accepted("agent", ending, "quiet"):facts().certainty)
        assert.equal("certain", accepted("agent", "report", ending, "quiet"):facts().certainty)
      end
      assert.equal("certain", accepted("agent", "interrupted", "quiet"):facts().certainty)
    end)

    it("when the program went on after an API error", function()
      assert.equal("likely", accepted(block { api_error = true }, "meta", "quiet"):facts().certainty)
      assert.equal("likely", accepted(block { api_error = true }, block(), "quiet"):facts().certainty)
    end)

    it("when the API error cut an answer off behind a call", function()
      local cut = block { api_error = true, broken_off = true }
      assert.equal("likely", accepted(cut, "quiet"):facts().certainty)
      assert.equal("certain", accepted(cut, block { api_error = true }, "quiet"):facts().certainty)
      assert.equal("certain", accepted(cut, "duration"):facts().certainty)
      assert.is_false(accepted(cut, "tool_result"):facts().api_error)
    end)
  end)

  describe("says that it is certainly over", function()
    it("at the record turn_duration, quiet or not", function()
      assert.equal("certain", accepted(block(), "duration"):facts().certainty)
      assert.equal("certain", accepted("duration", "busy"):facts().certainty)
    end)

    it("when it is quiet and the hook has run, in either order", function()
      assert.equal("certain", accepted(block(), "stop", "quiet"):facts().certainty)
      assert.equal("certain", accepted(block(), "quiet", "stop"):facts().certainty)
    end)

    it("when it is quiet and the command has finished", function()
      assert.equal("certain", accepted("meta", "finished", "quiet"):facts().certainty)
    end)

    it("when it is quiet and an API error was the last word", function()
      assert.equal("certain", accepted(block { api_error = true }, "quiet"):facts().certainty)
    end)

    it("when it is quiet and the interruption was recorded", function()
      assert.equal("certain", accepted("interrupt", "interrupted", "quiet"):facts().certainty)
    end)
  end)

  describe("knows", function()
    it("nothing at first", function()
      assert.same({
        state = "idle", certainty = "goes_on", busy_seen = false, quiet = false, stop_hook = false, duration = false,
        interrupting = false, interrupted = false, api_error = false, broken_off = false, last_is_answer = false,
        assistant_blocks = 0, agents = 0, finished = false,
      }, turn.new():facts())
    end)

    it("how many blocks came since the message was accepted", function()
      local facts = accepted(block(), block(), "tool_result", "meta", "interrupted", "duration"):facts()
      assert.equal(2, facts.assistant_blocks)
    end)

    it("how many sub-agents were not heard of again", function()
      local machine = accepted("agent", "agent", "report")
      assert.equal(1, machine:facts().agents)
      machine:apply "report"
      machine:apply "report"
      assert.equal(0, machine:facts().agents)
    end)

    it("the last stop reason that was given", function()
      local machine = accepted(block { stop_reason = "tool_use" }, block())
      assert.equal("tool_use", machine:facts().stop_reason)
      machine:apply("assistant", { stop_reason = "end_turn" })
      assert.equal("end_turn", machine:facts().stop_reason)
    end)

    it("a stop reason by its first 31 bytes", function()
      assert.equal(("x"):rep(31), accepted(block { stop_reason = ("x"):rep(100) }):facts().stop_reason)
    end)

    it("whether the last record was a block of an answer", function()
      assert.is_true(accepted("meta", block()):facts().last_is_answer)
      assert.is_true(accepted(block(), "duration"):facts().last_is_answer)
      for _, event in ipairs { "meta", "tool_result", "interrupted" } do
        assert.is_false(accepted(block(), event):facts().last_is_answer, event)
      end
    end)

    it("what it was told: busy, quiet, Escape, dialogs", function()
      local machine = accepted "busy"
      assert.is_true(machine:facts().busy_seen)
      machine:apply "quiet"
      assert.is_true(machine:facts().quiet)
      machine:apply "dialog"
      assert.is_false(machine:facts().quiet)
      machine:apply "interrupt"
      assert.is_true(machine:facts().interrupting)
    end)

    it("that a dialog is a sign of work", function()
      assert.is_true(accepted("dialog"):facts().busy_seen)
    end)

    it("nothing from before Enter", function()
      local facts = after("begin", "busy", "quiet", "submit"):facts()
      assert.same({ false, false }, { facts.busy_seen, facts.quiet })
    end)

    it("nothing of the turn before", function()
      local machine = accepted(block { stop_reason = "end_turn", api_error = true }, "agent", "interrupt",
        "interrupted", "quiet", "duration", "end", "begin")
      local fresh = turn.new()
      fresh:apply "begin"
      assert.same(fresh:facts(), machine:facts())
    end)
  end)

  it("keeps many turns apart", function()
    local one, two = accepted(block()), turn.new()
    assert.same({ "running", "idle" }, { one:state(), two:state() })
    assert.same({ 1, 0 }, { one:facts().assistant_blocks, two:facts().assistant_blocks })
  end)
end)
