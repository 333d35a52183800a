local checks = require "spec.conformance.checks"
local delivery = require "parley.policy.delivery"
local helper = require "spec.helper"
local json = require("parley.core").json
local testing = require "parley.testing"

--- Writes a file where the program's own tool would.
local WRITE = { on = "WRITETOOL", after = "done", tool = { name = "Write", permission = true, result = "written",
  input = { file_path = "written.txt", content = "written\n" }, leaves = "echo written >written.txt" } }

local ECHO = { name = "Bash", input = { command = "echo A" }, result = "A" }

--- A place whose program is simulated, on a real terminal. `changes`: `script`, `options`, `taken`, which spoils what
--- has arrived, and `make`, for what is no matter of the terminal.
local function worlds(profile, changes)
  return function(given)
    local script = { answers = { WRITE } }
    for name, value in pairs(changes.script or {}) do script[name] = value end
    local make = changes.make or testing.kit
    local kit = make { profile = profile, script = script, trusted = (given.answers or {}).trust }
    local options = {}
    for _, each in ipairs { kit.options, changes.options or {} } do
      for name, value in pairs(each) do options[name] = value end
    end
    local function taken()
      local texts = kit:taken()
      return changes.taken and changes.taken(texts) or texts
    end
    local function shown(id) return (assert(json.encode(kit:transcript(id)))) end
    local function close() kit:close() end
    return setmetatable({ options = options, taken = taken, shown = shown, close = close }, { __close = close })
  end
end

local function run(profile, names, changes, hang_ms)
  local outcomes, reasons = {}, {}
  checks.run(worlds(profile, changes or {}), function(name, outcome, reason)
    outcomes[name], reasons[name] = outcome, reason
  end, names, hang_ms)
  return outcomes, reasons
end

describe("the checks of a version", function()
  local check_leaks
  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  for _, profile in ipairs { "2.1.330", "2.1.110" } do
    it("pass where the promises are kept, as on " .. profile, helper.task(function()
      local names = { "ready", "turn", "tool", "forbidden", "interrupt", "resume", "seed", "dialogs", "1 kB",
        "60 lines", "200 lines", "CRLF", "code", "right to left", "permission" }
      local outcomes, reasons = run(profile, names)
      assert.same({}, reasons)
      for _, name in ipairs(names) do assert.equal("ok", outcomes[name], name) end
    end))
  end

  it("say what a version cannot do, and why, and go on", helper.task(function()
    local policy = { delivery = { prepare = function(text, options, view)
      if #text > 200000 then return nil, "it is too long" end
      return delivery.prepare(text, options, view)
    end } }
    local outcomes, reasons = run("2.1.330", { "1 MB", "awkward", "turn" }, { make = testing.world,
      options = { policies = policy } })
    assert.same({ ["1 MB"] = "-", awkward = "ok", turn = "ok" }, outcomes)
    assert.matches("^refused: the message cannot be sent", reasons["1 MB"])
  end))

  it("count a text that never got into the composer as not sent, not as lost", helper.task(function()
    local policy = { delivery = { keystrokes = function() return { { keys = "", holds = "what is not typed" } } end } }
    local outcomes, reasons = run("2.1.330", { "ready", "60 lines" }, { make = testing.world,
      options = { policies = policy } })
    assert.equal("-", outcomes["60 lines"], reasons["60 lines"])
    assert.matches("^not sent", reasons["60 lines"])
  end))

  it("count a version that does not call as one that cannot have a permission policy", helper.task(function()
    local options = { settings = { disableAllHooks = true } }
    local outcomes, reasons = run("2.1.330", { "permission" }, { make = testing.world, options = options })
    assert.equal("-", outcomes.permission)
    assert.matches("there is no permission policy", reasons.permission)
  end))

  describe("are red", function()
    local function is_red(reason, name, changes, hang_ms)
      changes.make = changes.make or testing.world
      local outcomes, reasons = run("2.1.330", { name }, changes, hang_ms)
      assert.equal("wrong", outcomes[name])
      assert.matches(reason, reasons[name])
    end

    it("when a line is lost on the way", helper.task(function()
      is_red("^changed from byte %d+ of %d+ on", "60 lines", { taken = function(texts)
        for i, text in ipairs(texts) do texts[i] = text:gsub("line 2 of sixty\n", "") end
        return texts
      end })
    end))

    it("when a message arrives twice", helper.task(function()
      is_red("^2 messages in the API's request", "turn", { taken = function(texts)
        return table.move(texts, 1, #texts, #texts + 1)
      end })
    end))

    it("when a message does not arrive", helper.task(function()
      is_red("^lost: nothing in the API's request", "turn", { taken = function() return {} end })
    end))

    it("when the program keeps another text than was sent", helper.task(function()
      is_red("^changed, and said so: ", "turn", { options = { policies = { delivery = {
        keystrokes = function(text) return { { keys = text:sub(2), holds = text:sub(2) } } end } } } })
    end))

    it("when a turn does not end", helper.task(function()
      is_red("^hangs", "turn", { script = { answers = { { hang = true } } } }, 2000)
    end))

    it("when a call runs that was denied", helper.task(function()
      is_red("^of two calls 2 ran as allowed, 0 were denied", "permission", { script = { answers = { { steps = {
        { tools = { ECHO, ECHO } }, { text = "done" } } } } } })
    end))

    it("when a dialog is answered that nobody may answer", helper.task(function()
      is_red("no DialogError was raised", "dialogs", { make = testing.kit, options = { accept = { "trust" } } })
    end))
  end)
end)
