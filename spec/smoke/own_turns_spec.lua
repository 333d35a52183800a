-- Turns that the real program begins by itself: what becomes of the message beside them.
local core = require "parley.core"
local files = require "parley.base.files"
local helper = require "spec.helper"
local smoke = require "spec.smoke.live"
local task = require "parley.base.task"
local tui = require "parley.claude.tui"

local say = helper.say

local function bash(command, is_behind)
  return { blocks = { { type = "tool_use", name = "Bash",
    input = { command = command, description = "x", run_in_background = is_behind or nil } } } }
end

describe("beside a turn of its own, the real program", function()
  if not smoke.claude then return pending "needs PARLEY_CLAUDE: run make smoke" end
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  local has_begun = task.condition()
  local looks, is_answered = 0, false
  local function script(text, request)
    local all = core.json.encode(request.body.messages)
    if all:find "next message" then
      local is_first = not is_answered
      is_answered = true
      return is_first and { blocks = { { type = "text", text = "to the next" } } } or nil
    elseif all:find "<task%-notification>" then
      looks = looks + 1
      has_begun:notify()
      return looks == 1 and bash "sleep 5" or nil
    end
    return text:find "^BEHIND" and request.step == 0 and bash("sleep 2", true) or nil
  end

  smoke.converses("has a message that was entered in it answered once, as the turn that it is", { script = script },
    function(live, server)
      say(live, "BEHIND please")
      local write = live.process.write
      function live.process.write(self, bytes, ...)
        if bytes == "\r" then
          while looks == 0 do has_begun:wait() end
          live.process.write = nil
        end
        return write(self, bytes, ...)
      end
      local said = say(live, "next message")
      assert.equal("success", said.verdict)
      assert.equal("next message", said.events[1]:text())
      assert.equal("to the next", said.texts[#said.texts])
      local joined = #smoke.of_subtype(said, "message_joined")
      assert.is_true(joined == 1 or joined == 0 and smoke.is_oldest) -- which may give it a turn of its own
      smoke.is_fine(live, server)
    end)

  smoke.converses("answers a message behind two of a person's, of which the second waits in the queue",
    { script = { { on = "mine", delay_ms = 3000, blocks = { { type = "text", text = "yours" } } } } },
    function(live, server)
      smoke.is_fine(live, server)
      for _, text in ipairs { "mine", "and mine" } do
        live.process:write(text)
        helper.eventually(function() return live.process.screen:text():find(text, 1, true) end)
        task.condition():wait(300)
        live.process:write "\r"
        helper.eventually(function() return live:state() == "busy" end, 30000)
      end
      smoke.is_fine(live, server, "next one")
      assert.equal(4, #server:turns())
    end)

  local function with_skill(home)
    local folder = home.home .. "/.claude/skills/apart"
    assert(files.make_folder(folder))
    files.write(folder .. "/SKILL.md", "---\nname: apart\ndescription: d\ncontext: fork\n---\nSUBPROMPT $ARGUMENTS\n")
  end

  smoke.converses("has the answer of a skill that runs as a sub-agent in the events of its command", {
    script = { { on = "SUBPROMPT", blocks = { { type = "text", text = "the skill's answer" } }, delay_ms = 2000 } },
    prepare = with_skill,
  }, function(live, server)
    local said = smoke.run(live, "/apart now")
    assert.equal("success", said.verdict)
    local heard = 0
    for _, event in ipairs(said.events) do
      if event.content and event:text():find "the skill's answer" then heard = heard + 1 end
    end
    assert.is_true(heard >= 1)
    smoke.is_fine(live, server)
  end)

  smoke.converses("has a turn end before one about what has ended in the background while it was answered", {
    script = { { on = "BEHIND", blocks = bash("sleep 4", true).blocks },
      { on = "STREAM", line_ms = 100, blocks = { { type = "text", text = ("line\n"):rep(60) .. "the end" } } } },
  }, function(live, server)
    say(live, "BEHIND please")
    local said = say(live, "STREAM please")
    assert.same({ "success", 1 }, { said.verdict, #said.texts })
    for _, event in ipairs(said.events) do
      assert.is_falsy(event.type == "user" and event:text():find "task%-notification")
    end
    smoke.is_fine(live, server)
  end)

  local function agent(name)
    return { type = "tool_use", name = "Agent", input = { description = name, prompt = "SUBPROMPT " .. name,
      subagent_type = "general-purpose", run_in_background = true } }
  end

  local SCRIPT = 'export const meta = { name: "two", description: "d" }\nreturn await agent("SUBPROMPT one")'
  local BEHIND = { skill = { name = "Skill", input = { skill = "apart", args = "one" } },
    workflow = { name = "Workflow", input = { script = SCRIPT } } }
  if smoke.is_oldest then BEHIND.workflow = nil end -- which has none

  for kind, call in pairs(BEHIND) do
    smoke.converses(("ends a turn behind the report of a %s that the model has started"):format(kind), {
      prepare = with_skill, script = {
        { on = "LAUNCH", blocks = { { type = "tool_use", name = call.name, input = call.input } } },
        { on = "LAUNCH", step = 1, blocks = { { type = "text", text = "it works" } } },
        { on = "SUBPROMPT", delay_ms = 3000, blocks = { { type = "text", text = "done apart" } } } } },
      function(live, server)
        local said = say(live, "LAUNCH please")
        assert.equal("success", said.verdict)
        assert.equal("it works", said.texts[1])
        local goes_on = kind == "workflow" or smoke.version > "2.1.250" -- a skill of those before is waited for
        assert.equal(goes_on and 2 or 1, #said.texts)
        assert.matches("done apart", core.json.encode(server:turns()[#server:turns()].body.messages))
        smoke.is_fine(live, server)
      end)
  end

  ---A person presses Ctrl+X Ctrl+K twice, until the program says that it has stopped them: a key may be lost.
  local function stop_agents(live)
    helper.eventually(function()
      for _, keys in ipairs { "\24", "\11", "\24", "\11" } do
        live.process:write(keys)
        task.condition():wait(100)
      end
      return (files.read(live.jsonl_path) or ""):find('"agents_killed"', 1, true)
    end, 60000)
  end

  for count, blocks in ipairs { { agent "one" }, { agent "one", agent "two" } } do
    smoke.converses(("ends a turn whose %d sub-agents a person has stopped"):format(count), { script = {
      { on = "SUBPROMPT", delay_ms = 600000 },
      { on = "LAUNCH", blocks = blocks },
      { on = "LAUNCH", step = 1, blocks = { { type = "text", text = "they work" } } },
      { on = "stopped by the user", blocks = { { type = "text", text = "they are stopped" } } } } },
      function(live, server)
        local saying = task.spawn(say, live, "LAUNCH please")
        helper.eventually(function()
          return live.turn and live.turn:facts().agents == count and live.turn:facts().last_is_answer
        end, 60000)
        helper.eventually(function() return tui.awaits_background(live:view().rows) end, 60000)
        stop_agents(live)
        local said = saying:await()
        assert.equal("success", said.verdict)
        assert.equal("they work", said.texts[1])
        assert.equal(2, #said.texts) -- 2.1.332 asks as in the turn before, whose words then count
        assert.equal(1, #smoke.of_subtype(said, "agents_killed"))
        smoke.is_fine(live, server)
      end)
  end

  smoke.converses("ends a turn whose sub-agent a person has stopped while the model still spoke", { script = {
    { on = "SUBPROMPT", delay_ms = 600000 },
    { on = "LAUNCH", blocks = { agent "one" } },
    { on = "LAUNCH", step = 1, line_ms = 100, blocks = { { type = "text", text = ("line\n"):rep(60) .. "it works" } } },
    { on = "stopped by the user", blocks = { { type = "text", text = "it is stopped" } } } } },
    function(live, server)
      local saying = task.spawn(say, live, "LAUNCH please")
      helper.eventually(function() return live.turn and live.turn:facts().agents == 1 end, 60000)
      stop_agents(live)
      local said = saying:await()
      assert.equal("success", said.verdict)
      assert.matches("it works$", said.texts[1])
      assert.equal(1, #smoke.of_subtype(said, "agents_killed"))
      assert.equal(2, #said.texts)
      smoke.is_fine(live, server)
    end)

  smoke.converses("answers a message beside the one that an agent of the user's begins with", {
    settings = { agent = "starter" },
    prepare = function(home)
      assert(files.make_folder(home.home .. "/.claude/agents"))
      files.write(home.home .. "/.claude/agents/starter.md",
        "---\nname: starter\ndescription: d\ninitialPrompt: do the first thing\n---\nYou are one.\n")
    end,
  }, function(live, server)
    smoke.is_fine(live, server, "hello")
    smoke.is_fine(live, server)
  end)
end)
