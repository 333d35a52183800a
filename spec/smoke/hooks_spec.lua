-- The user's own hooks on the real program: they work, and what they do to a turn is seen.
local files = require "parley.base.files"
local helper = require "spec.helper"
local smoke = require "spec.smoke.live"
local task = require "parley.base.task"

local say, is_fine = helper.say, smoke.is_fine

local function hook(command) return { { hooks = { { type = "command", command = command } } } } end

describe("the user's hooks with the real program", function()
  if not smoke.claude then return pending "needs PARLEY_CLAUDE: run make smoke" end
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  ---A spec whose hooks are the commands given, event by event.
  local function with(hooks, name, body)
    local settings = { hooks = {} }
    for event, command in pairs(hooks) do settings.hooks[event] = hook(command) end
    it(name, smoke.conversation({ settings = settings }, body))
  end

  local LOG = "cat >>$HOME/hooks.jsonl; echo >>$HOME/hooks.jsonl"

  with({ SessionStart = LOG, UserPromptSubmit = LOG, PreToolUse = LOG, PostToolUse = LOG, Stop = LOG },
    "are run, each for its event", function(live, server, home)
      assert.equal("success", say(live, "USETOOL please").verdict)
      is_fine(live, server)
      local names, prompts = {}, {}
      for _, given in ipairs(helper.json_lines(files.read(home.home .. "/hooks.jsonl"))) do
        table.insert(names, given.hook_event_name)
        table.insert(prompts, given.prompt)
      end
      assert.same({ "SessionStart", "UserPromptSubmit", "PreToolUse", "PostToolUse", "Stop", "UserPromptSubmit",
        "Stop" }, names)
      assert.same({ "USETOOL please", "still there?" }, prompts)
    end)

  with({ Stop = "sleep 2" }, "may take their time at the end of a turn", function(live, server)
    for number = 1, 3 do is_fine(live, server, "number " .. number) end
    assert.same({ "first text", "second text" }, say(live, "THINK and go").texts)
  end)

  with({ Stop = 'test -e $HOME/once && exit 0; touch $HOME/once; sleep 1; echo "not yet" >&2; exit 2' },
    "may have the model go on: that is the same turn", function(live, server)
      local said = say(live, "hello")
      assert.equal("success", said.verdict)
      assert.equal(2, #said.texts)
      is_fine(live, server)
      assert.same({ "hello", "still there?" }, smoke.recorded(live))
    end)

  with({ UserPromptSubmit = 'grep -q secret && { echo "no secrets here" >&2; exit 2; }; exit 0' },
    "may refuse a message, which is an error that says so", function(live, server)
      is_fine(live, server, "first")
      local err = helper.failure_of("SessionError", say, live, "my secret is 17")
      assert.equal("refused", err.reason)
      assert.matches("no secrets here", tostring(err))
      assert.equal(1, #server:turns())
    end)

  for name, answer in pairs {
    ["in JSON"] = [["suppressOriginalPrompt":true]],
    ["in JSON that hides the message"] = [["hookSpecificOutput":{"hookEventName":"UserPromptSubmit",]]
      .. [["suppressOriginalPrompt":true}]],
  } do
    for count = 0, 1 do
      local said = '{"decision":"block","reason":"no secrets here",' .. answer .. "}"
      local title = ("may refuse a message %s, after %d others"):format(name, count)
      with({ UserPromptSubmit = ("grep -q secret && echo '%s'; exit 0"):format(said) }, title, function(live, server)
        for _ = 1, count do is_fine(live, server, "first") end
        local started = task.now()
        local err = helper.failure_of("SessionError", say, live, "my secret is 17")
        assert.equal("refused", err.reason)
        assert.matches("no secrets here", tostring(err))
        assert.is_true(task.now() - started < 25000)
        assert.equal(count, #server:turns())
      end)
    end
  end

  for name, reason in pairs { ["with a reason"] = [[,"stopReason":"no secrets here"]], ["without one"] = "" } do
    with({ UserPromptSubmit = ([[grep -q secret && echo '{"continue":false%s}'; exit 0]]):format(reason) },
      "may stop at a message, which has no answer then, " .. name, function(live, server)
        is_fine(live, server, "first")
        local said = say(live, "my secret is 17")
        assert.equal("error_hook", said.verdict)
        assert.matches(reason ~= "" and "at the message: no secrets here$" or "at the message$", said.result.message)
        for _, event in ipairs(said.events) do
          if event.type == "user" and not event.is_meta then assert.equal("my secret is 17", event:text()) end
        end
        assert.equal(1, #server:turns())
        is_fine(live, server)
      end)
  end

  with({ UserPromptSubmit = "grep -q secret && sleep 35; exit 0" }, "may take longer than a lost message would",
    function(live, server) is_fine(live, server, "my secret is 17") end)

  with({ PostToolUse = [[echo '{"continue":false,"stopReason":"enough"}']],
    Stop = [[echo '{"continue":false,"stopReason":"enough"}']] }, "may end a turn", function(live, server)
    is_fine(live, server, "first")
    local said = say(live, "USETOOL please")
    assert.same({ "let me run that" }, said.texts)
    assert.equal("tool_use", said.result.stop_reason)
    is_fine(live, server)
  end)

  with({ PreToolUse = 'echo "no tools" >&2; exit 2' }, "may refuse a tool", function(live, server)
    local said = say(live, "USETOOL please")
    assert.equal("success", said.verdict)
    assert.same({ "let me run that", "echo: USETOOL please" }, said.texts)
    is_fine(live, server)
  end)
end)
