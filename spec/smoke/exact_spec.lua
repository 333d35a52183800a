-- Which call a permission prompt of the real program is about, where the program calls back: exactly the one.
local helper = require "spec.helper"
local smoke = require "spec.smoke.live"

describe("a permission prompt of the real program that calls back", function()
  if not smoke.claude then return pending "needs PARLEY_CLAUDE: run make smoke" end
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  local function bash(command)
    return { type = "tool_use", name = "Bash", input = { command = command, description = "as asked" } }
  end

  local function sorted(list)
    list = table.move(list, 1, #list, 1, {})
    table.sort(list)
    return list
  end

  --- The ids of the calls, by the program's message and by the dialogs that were answered.
  local function ids_of(said)
    local called, answered, choices = {}, {}, {}
    for _, event in ipairs(said.events) do
      for _, block in ipairs(event.type == "assistant" and event:blocks "tool_use" or {}) do
        table.insert(called, block.id)
      end
      if event.subtype == "dialog_answered" then
        table.insert(answered, event.tool_use and event.tool_use.id or "unknown")
        table.insert(choices, event.choice)
      end
    end
    return called, answered, choices
  end

  local LONG = ("ls\n"):rep(60) .. "ls"
  for name, commands in pairs {
    ["one command a part of the other"] = { "touch a.txt", "touch a.txt b.txt" },
    ["both taller than the screen, and alike in what is seen"] = { "touch a\n" .. LONG, "touch b\n" .. LONG },
    ["both asked about at once"] = { "cat a.txt", "cat a.txt b.txt" },
    ["both the same"] = { "cat a.txt", "cat a.txt" },
  } do
    local decided = {}
    local is_at_once = commands[1]:find "^cat" ~= nil
    local function ask()
      return { hookSpecificOutput = { hookEventName = "PreToolUse", permissionDecision = "ask" } }
    end
    it("names its call: " .. name, smoke.conversation({
      process = { permission_mode = "default" },
      session = { hooks = { PreToolUse = is_at_once and ask or function() end }, policies = { dialogs = {
        decide = function(dialog)
          table.insert(decided, { command = dialog.tool_use and dialog.tool_use.input.command, text = dialog.text,
            is_cut = dialog.is_cut })
          return { allow = true }
        end,
      } } },
      script = { { on = "DOIT", blocks = { bash(commands[1]), bash(commands[2]) } } },
    }, function(live, server)
      local said = helper.say(live, "DOIT please")
      assert.equal("success", said.verdict)
      local called, answered, choices = ids_of(said)
      assert.same(sorted(called), sorted(answered))
      for i, id in ipairs(answered) do
        assert.equal(id == called[1] and commands[1] or commands[2], decided[i].command)
      end
      for _, each in ipairs(decided) do
        local shows = ("\n" .. each.text .. "\n"):find("\n" .. each.command .. "\n", 1, true) ~= nil
        assert.is_true(each.is_cut or shows, each.text)
      end
      assert.same({ "Yes", "Yes" }, choices)
      smoke.is_fine(live, server)
    end))
  end
end)
