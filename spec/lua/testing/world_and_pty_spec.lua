-- The simulated program in a world and on a real terminal: one code, and the same to be seen of it.
local backend_of = require "parley.backend"
local helper = require "spec.helper"
local keys = require "spec.simulation.keys"
local marks = require "parley.testing.marks"
local process = require "parley.claude.process"
local testing = require "parley.testing"

local PROFILES = { "2.1.330", "2.1.197", "2.1.110" }
local SCENES = { "half_line", "reorder", "retry", "tool", "permission", "asks", "blocks", "own_turn", "dies_after",
  "dies_mid_line" }
local FAULTS = { {}, { lose_returns = 1 }, { lose_keys = 1 }, { dialog_at_return = true }, { late_flush_ms = 30 } }

local function decide(dialog) return dialog.choices[1] and { choose = 1 } or { fail = "it has no choices" } end

--- What the caller of each message is told, and what the program says that it was told.
local function converse(place, permission_mode)
  local set, told = {}, {}
  for name, value in pairs(place.options) do set[name] = value end
  set.policies, set.permission_mode = { dialogs = { decide = decide } }, permission_mode
  local backend <close> = backend_of.new(set)
  local messages = {}
  for number = 1, 2 do
    local text = ("m%d."):format(number) .. (number == 1 and " mark:" .. place.mark .. "." or "")
    table.insert(messages, { role = "user", content = text })
    local ok, err = pcall(function()
      for event in backend:complete(messages) do
        local said = event.type == "assistant" and event:text() or event.subtype or ""
        if event.type == "result" or event.type == "assistant" then table.insert(told, event.type .. " " .. said) end
      end
    end)
    if not ok then
      table.insert(told, err.code .. " " .. tostring(err.reason))
      break
    end
    table.insert(messages, { role = "assistant", content = "whatever it was" })
  end
  return { told = told, taken = place:taken() }
end

local function script_of(seed)
  local mark = SCENES[seed]
  local answer = { on = "mark:" .. mark .. "." }
  for name, value in pairs(marks.ANSWERS[mark]) do answer[name] = value end
  return { answers = { answer }, faults = FAULTS[seed % #FAULTS + 1] }
end

describe("the world and a real terminal", function()
  local check_leaks
  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  for seed = 1, helper.long(3, keys.SEEDS) do
    local profile = PROFILES[seed % #PROFILES + 1]

    it(("show the same after each key and fault of script %d (%s)"):format(seed, profile), helper.task(function()
      local foreseen = keys.foresee(seed, profile)
      local kit <close> = testing.kit { profile = profile }
      local live <close> = process.new(kit.options)
      live:start()
      live.changed:wait_until(function() return #kit:events "ready" > 0 end, 20000)
      helper.eventually(function() return #kit:events "ready" > 0 end)
      keys.hold_against(seed, foreseen, live, function() return kit:taken() end)
    end))

    it(("tell the same of a turn with %s (%s)"):format(SCENES[seed], profile), helper.task(function()
      local function play(place)
        place.mark = SCENES[seed]
        return converse(place, place.mark == "permission" and "default" or "bypassPermissions")
      end
      local in_world, on_pty
      do
        local world <close> = testing.world { seed = seed, script = script_of(seed), profile = profile }
        in_world = play(world)
      end
      do
        local kit <close> = testing.kit { script = script_of(seed), profile = profile }
        on_pty = play(kit)
      end
      assert.same(in_world, on_pty)
      assert.truthy(in_world.told[1])
    end))
  end
end)
